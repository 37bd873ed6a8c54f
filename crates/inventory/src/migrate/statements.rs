//! Splits a SQL file into statements, and executes them: Citus refuses several statements in one call.

use sqlx::{AssertSqlSafe, PgConnection};

/// The statements of `sql`, without the semicolons between them. Understands comments, quoted text and names, and
/// dollar-quoted bodies. Does not understand psql's own commands, which our files do not use.
pub fn statements(sql: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let (mut start, mut position) = (0, 0);
    while let Some(next) = sql[position..].chars().next() {
        let rest = &sql[position..];
        position += if rest.starts_with("--") {
            end_of(rest, 2, "\n")
        } else if rest.starts_with("/*") {
            end_of(rest, 2, "*/")
        } else if next == '\'' || next == '"' {
            end_of(rest, 1, &rest[..1])
        } else if let Some(tag) = dollar_tag(rest) {
            end_of(rest, tag.len(), tag)
        } else if next == ';' {
            statements.push(&sql[start..position]);
            start = position + 1;
            1
        } else {
            next.len_utf8()
        };
    }
    statements.push(&sql[start..]);
    statements.retain(|statement| !is_blank(statement));
    statements
}

/// Executes one statement. Its text comes from this program, never from a request.
pub(super) async fn execute(connection: &mut PgConnection, statement: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await?;
    Ok(())
}

/// The end of a token that starts with `text`: behind the first `mark` after `opening` bytes. A doubled quote counts
/// as two adjacent tokens.
fn end_of(text: &str, opening: usize, mark: &str) -> usize {
    text[opening..]
        .find(mark)
        .map_or(text.len(), |found| opening + found + mark.len())
}

/// The opening tag of dollar-quoted text: `$$` or `$name$`.
fn dollar_tag(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    (name[end..].starts_with('$') && !digit_first).then(|| &text[..end + 2])
}

/// Whether a statement has only comments and white space.
fn is_blank(statement: &str) -> bool {
    statement
        .lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with("--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_ends_a_statement_only_where_it_is_one() {
        let sql = "-- one; two\nselect ';', 'it''s; so', \";\";\n\
            /* ; */ do $$ begin; end $$;\n\
            create function f() returns text language sql as $body$ select '$$;' $body$;\n\
            select $1;\n-- the end;\n";
        let found = statements(sql);
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[0].ends_with("\";\""));
        assert!(found[1].ends_with("$$"));
        assert!(found[2].ends_with("$body$"));
        assert!(found[3].ends_with("select $1"));
    }

    #[test]
    fn nothing_is_lost() {
        let sql = "select 1; select 'ü;'; select 3";
        assert_eq!(statements(sql).join(";"), sql);
        assert!(statements("-- only words\n").is_empty());
    }
}
