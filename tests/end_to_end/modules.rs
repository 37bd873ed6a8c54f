//! No module of a crate uses itself by way of others. `make circles` asks cargo-modules, which reads what the compiler reads
//! and takes two minutes. This test reads the text of `use` lines and paths, so that no circle stays unseen until then.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::support::root;

/// A module: the names from the crate's root down to it.
type Module = Vec<String>;

/// The names of a path, or of one branch of a `use`.
type Names = Vec<String>;

/// The folders of all crates.
fn crates() -> impl Iterator<Item = PathBuf> {
    let several = ["bins", "crates"].into_iter().flat_map(|folder| {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path())
    });
    let single = ["bench", "demo", "tests"].map(|folder| root().join(folder));
    several.chain(single)
}

/// The text without comments and without its tests, which come last.
fn code(text: &str) -> String {
    let text = text.split("\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().map(|line| match line.find("//") {
        Some(0) => "",
        Some(start) if line[..start].ends_with(' ') => &line[..start],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The child modules that a text declares.
fn children(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim_start();
        let (visibility, name) = line.strip_suffix(';')?.split_once("mod ")?;
        (visibility.is_empty() || visibility.starts_with("pub")).then_some(name)
    })
}

/// All modules of a crate, with their texts.
fn read(source: &Path) -> BTreeMap<Module, String> {
    fn add(file: &Path, folder: &Path, module: &[String], all: &mut BTreeMap<Module, String>) {
        let text = code(&fs::read_to_string(file).unwrap());
        for child in children(&text) {
            let path = [module, &[child.to_owned()]].concat();
            let file = folder.join(child).with_extension("rs");
            add(&file, &folder.join(child), &path, all);
        }
        all.insert(module.to_vec(), text);
    }
    let mut all = BTreeMap::new();
    let library = source.join("lib.rs");
    let main = source.join("main.rs");
    let file = if library.exists() { library } else { main };
    add(&file, source, &[], &mut all);
    all
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The branches of a path that `text` begins with, for example `a::{b, c::D}`.
fn branches(text: &str) -> Vec<Names> {
    fn walk<'t>(mut text: &'t str, mut names: Names, all: &mut Vec<Names>) -> &'t str {
        loop {
            text = text.trim_start();
            if let Some(list) = text.strip_prefix('{') {
                text = list.trim_start();
                while !text.is_empty() && !text.starts_with('}') {
                    let before = text.len();
                    text = walk(text, names.clone(), all).trim_start();
                    text = text.strip_prefix(',').unwrap_or(text).trim_start();
                    if text.len() == before {
                        // No list of names has this.
                        text = text.trim_start_matches(|character| character != ',');
                    }
                }
                return text.get(1..).unwrap_or_default();
            }
            let end = text.find(|character| !is_name(character));
            let (name, rest) = text.split_at(end.unwrap_or(text.len()));
            if name.is_empty() {
                // `*`, or generic arguments.
                all.push(names);
                return text.strip_prefix('*').unwrap_or(text);
            }
            names.push(name.to_owned());
            match rest.strip_prefix("::") {
                Some(rest) => text = rest,
                None => {
                    all.push(names);
                    let renamed = rest.strip_prefix(" as ");
                    return renamed.map_or(rest, |name| name.trim_start_matches(is_name));
                }
            }
        }
    }
    let mut all = Vec::new();
    walk(text, Vec::new(), &mut all);
    all
}

/// The paths in a text that start with this name.
fn paths_from(text: &str, first: &str) -> Vec<Names> {
    let start = format!("{first}::");
    let starts = text.match_indices(&start).filter(|(position, _)| {
        let before = &text[..*position];
        !before.ends_with(is_name) && !before.ends_with("::")
    });
    starts
        .flat_map(|(position, _)| branches(&text[position..]))
        .collect()
}

struct Uses<'a> {
    texts: &'a BTreeMap<Module, String>,
}

impl Uses<'_> {
    /// The module of what `names` means in `module`. `None`: it is not in this crate.
    fn resolve(&self, module: &[String], names: &[String]) -> Option<Module> {
        let (mut current, mut rest) = (module.to_vec(), names);
        match names.first()?.as_str() {
            "crate" => (current, rest) = (Module::new(), &names[1..]),
            "self" => rest = &names[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    current.pop()?;
                    rest = &rest[1..];
                }
            }
            first => {
                let child = [module, &[first.to_owned()]].concat();
                self.texts.get(&child)?;
            }
        }
        for (position, name) in rest.iter().enumerate() {
            let child = [&current[..], std::slice::from_ref(name)].concat();
            if self.texts.contains_key(&child) {
                current = child;
            } else {
                let reexported = self.reexports(&current).remove(name);
                let mut names = reexported.unwrap_or_default();
                names.extend_from_slice(&rest[position + 1..]);
                return self.resolve(&current, &names).or(Some(current));
            }
        }
        Some(current)
    }

    /// The names that a module hands on from others.
    fn reexports(&self, module: &[String]) -> BTreeMap<String, Names> {
        let lines = self.texts[module].split(';').filter_map(|statement| {
            let (_, path) = statement.rsplit_once("pub use ").or_else(|| {
                let (_, rest) = statement.rsplit_once("pub(")?;
                rest.split_once(") use ")
            })?;
            Some(branches(path))
        });
        lines
            .flatten()
            .filter_map(|names| Some((names.last()?.clone(), names)))
            .collect()
    }

    fn of(&self, module: &Module) -> BTreeSet<Module> {
        let text = &self.texts[module];
        let firsts = ["crate", "self", "super"].into_iter();
        let paths = firsts
            .chain(children(text))
            .flat_map(|first| paths_from(text, first));
        let mut used: BTreeSet<Module> = paths
            .filter_map(|names| self.resolve(module, &names))
            .collect();
        used.remove(module);
        used
    }

    /// A way from a module back to itself.
    fn circle(&self) -> Option<Vec<String>> {
        let mut left: BTreeMap<Module, BTreeSet<Module>> = self
            .texts
            .keys()
            .map(|module| (module.clone(), self.of(module)))
            .collect();
        // Takes away what uses nothing that is left, until nothing more can be taken away.
        loop {
            let before = left.len();
            let names: BTreeSet<Module> = left.keys().cloned().collect();
            left.retain(|_, used| !used.is_disjoint(&names));
            if left.len() == before {
                break;
            }
        }
        let mut way = vec![left.keys().next()?.clone()];
        loop {
            let used = &left[&way[way.len() - 1]];
            let next = used.iter().find(|module| left.contains_key(*module))?;
            let seen = way.iter().position(|module| module == next);
            way.push(next.clone());
            if let Some(start) = seen {
                let names = way[start..].iter().map(|module| module.join("::"));
                return Some(names.map(|name| format!("crate::{name}")).collect());
            }
        }
    }
}

#[test]
fn no_module_uses_itself_by_way_of_others() {
    let circles = crates().filter_map(|folder| {
        let texts = read(&folder.join("src"));
        assert!(texts.len() > 1, "{folder:?}");
        Some((folder, Uses { texts: &texts }.circle()?))
    });
    let circles: Vec<_> = circles.collect();
    assert!(circles.is_empty(), "each uses the next: {circles:#?}");
}

#[test]
fn a_circle_is_found_however_a_module_is_named() {
    let circle = |modules: &[(&str, &str)]| {
        let module = |name: &str| name.split_terminator("::").map(str::to_owned).collect();
        let texts: BTreeMap<Module, String> = modules
            .iter()
            .map(|(name, text)| (module(name), code(text)))
            .collect();
        Uses { texts: &texts }.circle()
    };
    let root = "mod a;\nmod b;\n";
    let uses_b = ("a", "use crate::{\n    b::{self, C},\n};\n");
    assert_eq!(
        circle(&[("", root), uses_b, ("b", "// crate::a\nstruct C;")]),
        None
    );
    let of_a = [
        "use crate::a;",
        "use super::a::{X as Y, *};",
        "fn f() { std::mem::drop(crate::a::X::new()) }",
        "use std::fmt;\n\nuse crate::{c::Other, a::deep::Thing};",
        "use crate::{#odd, a::X, ",
    ];
    for text in of_a {
        let found = circle(&[("", root), uses_b, ("b", text)]);
        assert_eq!(found.map(|way| way.len()), Some(3), "{text}");
    }
    // By way of the root, which has an item of its own or hands one on, or of a child.
    assert!(
        circle(&[
            ("", "mod a;\nstruct Own;\nfn f() { a::g() }"),
            ("a", "use crate::Own;")
        ])
        .is_some()
    );
    let handed_on = ("", "mod a;\nmod b;\npub(crate) use a::{Given, Other};");
    assert!(circle(&[handed_on, uses_b, ("b", "use crate::Given;")]).is_some());
    assert!(circle(&[handed_on, ("a", ""), ("b", "use crate::Given;")]).is_none());
    let child = ("a::child", "use super::Parent;");
    assert!(
        circle(&[
            ("", "mod a;"),
            ("a", "mod child;\nuse child::Child;"),
            child
        ])
        .is_some()
    );
    assert!(circle(&[("", "mod a;"), ("a", "mod child;"), child]).is_none());
}
