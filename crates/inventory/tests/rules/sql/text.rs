//! SQL and Rust as text: words, clauses and string literals. Not a full parser: only what the checks need.

/// Where a FROM clause ends.
const FROM_ENDS: [&str; 14] = [
    "where",
    "group",
    "having",
    "window",
    "order",
    "limit",
    "offset",
    "for",
    "union",
    "intersect",
    "except",
    "returning",
    "loop",
    "set",
];
/// Functions that PostgreSQL calls without parentheses. None of them is immutable.
pub(super) const CALLED_BARE: [&str; 5] = [
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
];

/// The words and signs of `sql` in lower case. Quoted text becomes one `'`, a parameter one `$`. Comments and the
/// quotes of a function's body are left out.
fn words(sql: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = sql;
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if next == '\'' {
            words.push("'".to_owned());
            rest[1..].find('\'').map_or(rest.len(), |end| end + 2)
        } else if next == '$' {
            let name = rest[1..].find(|c: char| !is_part_of_word(c));
            let name = name.map_or(rest.len(), |end| end + 1);
            if rest[name..].starts_with('$') {
                name + 1
            } else {
                words.push("$".to_owned());
                name
            }
        } else if is_part_of_word(next) {
            let length = rest.find(|c: char| !is_part_of_word(c));
            let length = length.unwrap_or(rest.len());
            words.push(rest[..length].to_lowercase());
            length
        } else {
            if !next.is_whitespace() && next != '"' {
                words.push(next.to_string());
            }
            next.len_utf8()
        };
        rest = &rest[length..];
    }
    words
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The statements of `sql`, also those within the body of a function, as words.
pub(super) fn statements_as_words(sql: &str) -> Vec<Vec<String>> {
    words(sql)
        .split(|word| word == ";")
        .map(<[_]>::to_vec)
        .collect()
}

/// The positions of `pattern` in `words`.
pub(super) fn places<'a>(
    words: &'a [String],
    pattern: &'a [&str],
) -> impl Iterator<Item = usize> + 'a {
    let windows = words.windows(pattern.len()).enumerate();
    windows
        .filter(move |(_, window)| window.iter().eq(pattern))
        .map(|(place, _)| place)
}

/// The words before the first of `ends` outside parentheses, or before the closing parenthesis.
pub(super) fn clause<'a>(words: &'a [String], ends: &[&str]) -> &'a [String] {
    let mut depth = 0;
    for (place, word) in words.iter().enumerate() {
        let of_a_comparison = place > 0 && words[place - 1] == "distinct";
        match word.as_str() {
            "(" => depth += 1,
            ")" if depth == 0 => return &words[..place],
            ")" => depth -= 1,
            word if depth == 0 && ends.contains(&word) && !of_a_comparison => {
                return &words[..place];
            }
            _ => {}
        }
    }
    words
}

/// The elements of a list.
pub(super) fn parts(words: &[String]) -> Vec<&[String]> {
    let mut parts = Vec::new();
    let mut rest = words;
    loop {
        let part = clause(rest, &[","]);
        parts.push(part);
        match rest.get(part.len() + 1..) {
            Some(next) => rest = next,
            None => return parts,
        }
    }
}

/// The called functions, at any depth.
pub(super) fn calls(words: &[String]) -> impl Iterator<Item = &str> {
    words.iter().enumerate().filter_map(|(place, word)| {
        let opened = words.get(place + 1).is_some_and(|next| next == "(");
        let called = opened && is_name(word) || CALLED_BARE.contains(&word.as_str());
        called.then_some(word.as_str())
    })
}

/// The names that are not called: columns, and variables of a function. Without the types of casts.
pub(super) fn names(words: &[String]) -> impl Iterator<Item = &str> {
    words.iter().enumerate().filter_map(|(place, word)| {
        let opened = words.get(place + 1).is_some_and(|next| next == "(");
        let is_type = word == "interval" || place > 0 && words[place - 1] == ":";
        let other = ["null", "true", "false", "default"].contains(&word.as_str())
            || CALLED_BARE.contains(&word.as_str());
        (is_name(word) && !opened && !is_type && !other).then_some(word.as_str())
    })
}

fn outside_parentheses(words: &[String]) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    words.iter().map(String::as_str).filter(move |word| {
        depth += i32::from(*word == "(") - i32::from(*word == ")");
        depth == 0
    })
}

/// A query with a FROM clause.
pub(super) struct Query<'a> {
    pub(super) from: &'a [String],
    /// The words before and after the FROM clause.
    pub(super) rest: [&'a [String]; 2],
}

/// Each query of a statement, at any depth.
pub(super) fn queries(words: &[String]) -> impl Iterator<Item = Query<'_>> {
    places(words, &["from"])
        .filter(|place| *place == 0 || words[place - 1] != "distinct")
        .map(|place| {
            let from = clause(&words[place + 1..], &FROM_ENDS);
            let behind = &words[place + 1 + from.len()..];
            Query {
                from,
                rest: [
                    &words[beginning(words, place)..place],
                    clause(behind, &["union", "intersect", "except"]),
                ],
            }
        })
}

/// The start of the query whose FROM is at `from`.
fn beginning(words: &[String], from: usize) -> usize {
    let mut depth = 0;
    for place in (0..from).rev() {
        match words[place].as_str() {
            ")" => depth += 1,
            "(" if depth == 0 => return place + 1,
            "(" => depth -= 1,
            "select" | "update" | "delete" if depth == 0 => return place,
            _ => {}
        }
    }
    0
}

impl Query<'_> {
    /// Whether the FROM clause has a function beside its tables.
    pub(super) fn reads_a_function(&self) -> bool {
        let mut depth = 0;
        for (place, word) in self.from.iter().enumerate() {
            let follows = place
                .checked_sub(1)
                .map_or(",", |before| self.from[before].as_str());
            let opened = self.from.get(place + 1).is_some_and(|next| next == "(");
            let is_item = [",", "join", "lateral", "using"].contains(&follows) && word != "lateral";
            match word.as_str() {
                "(" => depth += 1,
                ")" => depth -= 1,
                word if depth == 0 && opened && is_item && is_name(word) => return true,
                _ => {}
            }
        }
        false
    }

    /// Whether a subquery outside the FROM clause uses a name from that clause.
    pub(super) fn has_a_correlated_subquery(&self) -> bool {
        let outer: Vec<&str> = outside_parentheses(self.from).collect();
        self.rest.iter().any(|rest| {
            places(rest, &["(", "select"]).any(|place| {
                let inner = clause(&rest[place + 1..], &[]);
                let mut pairs = inner.windows(2);
                pairs.any(|pair| pair[1] == "." && outer.contains(&pair[0].as_str()))
            })
        })
    }
}

/// The string literals of Rust source. Literals separated only by a comma or macros such as `columns!()` are joined,
/// as in `concat!`.
pub(super) fn literals(rust: &str) -> Vec<String> {
    let mut literals: Vec<String> = Vec::new();
    // The code since the last literal.
    let mut between = String::new();
    let mut rest = rust;
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some((literal, length)) = literal(rest) {
            match literals.last_mut() {
                Some(last) if joins(&between) => *last += &format!(" {literal}"),
                _ => literals.push(literal),
            }
            between.clear();
            length
        } else {
            between.push(next);
            // Other text that may contain a quote: a character.
            ["'\"'", "'\\''", "'\\\\'"]
                .into_iter()
                .find(|character| rest.starts_with(character))
                .map_or(next.len_utf8(), str::len)
        };
        rest = &rest[length..];
    }
    literals
}

fn joins(between: &str) -> bool {
    let mut parts = between.split(',').map(str::trim);
    between.contains(',') && parts.all(|part| part.is_empty() || part.ends_with("!()"))
}

/// The literal at the start of `rust`, and its length there.
fn literal(rust: &str) -> Option<(String, usize)> {
    if let Some(raw) = rust.strip_prefix("r#\"") {
        let end = raw.find("\"#")?;
        return Some((raw[..end].to_owned(), end + 5));
    }
    let quoted = rust.strip_prefix('"')?;
    let mut literal = String::new();
    let mut characters = quoted.char_indices();
    while let Some((place, next)) = characters.next() {
        match next {
            '"' => return Some((literal, place + 2)),
            '\\' => match characters.next()?.1 {
                'n' => literal.push('\n'),
                // The line continues after the white space of the next one.
                '\n' => {
                    let blank = characters.as_str();
                    let blank = blank.len() - blank.trim_start().len();
                    characters.by_ref().take(blank).for_each(drop);
                }
                escaped => literal.push(escaped),
            },
            _ => literal.push(next),
        }
    }
    None
}

#[test]
fn literals_are_what_rust_reads() {
    let rust = r##"
        // "no literal"
        let a = "one \"two\"\n\
            three"; let quote = '"';
        query(concat!("select ", columns!(), " from", "products"), r#"a "raw" one"#);
        ["b".into(), "c".into()]
    "##;
    let expected = [
        "one \"two\"\nthree",
        "select   from products",
        "a \"raw\" one",
        "b",
        "c",
    ];
    assert_eq!(literals(rust), expected);
}
