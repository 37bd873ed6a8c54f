//! The examples of README.md, RUNBOOK.md and of the pages in `docs/`, run as they stand there.
//!
//! Each page has a service of its own, in the state that `make up` leaves: product 1 is sold out. bash runs the blocks
//! of a page that are opened with ` ```sh test `, one after the other, in one session, as a reader does. A ` ```json `
//! block right behind one is what its last line of output must be; only times may differ.

use std::{env, ffi::OsString, fs, iter, path::Path, process::Command};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Folder, System, id, output, root};

/// The address that the pages speak of.
const ADDRESS: &str = "http://127.0.0.1:8080";

/// The pages that have examples, in the order in which they are found.
const PAGES: [&str; 12] = [
    "README.md",
    "RUNBOOK.md",
    "docs/api.md",
    "docs/events.md",
    "docs/faq.md",
    "docs/idempotency.md",
    "docs/operating.md",
    "docs/reservation-states.md",
    "docs/sale-rules.md",
    "docs/security.md",
    "docs/start.md",
    "docs/waitlist.md",
];

/// A line of output that no example writes.
const END_OF_EXAMPLE: &str = "--- end of an example ---";

#[derive(Debug, PartialEq)]
struct Example {
    commands: String,
    answer: Option<String>,
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        // A block may belong to a step of a list.
        if line.trim() != "```sh test" {
            continue;
        }
        let commands = block(&mut lines);
        let answer = lines
            .next_if(|line| line.trim() == "```json")
            .map(|_| block(&mut lines));
        examples.push(Example { commands, answer });
    }
    examples
}

/// The lines up to the fence that closes a block.
fn block<'a>(lines: &mut impl Iterator<Item = &'a str>) -> String {
    let inside: Vec<&str> = lines.take_while(|line| line.trim() != "```").collect();
    inside.join("\n")
}

/// Every time becomes the same: an example cannot know them.
fn timeless(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields {
                *field = if name.ends_with("_at") && field.is_string() {
                    Value::from("some time")
                } else {
                    timeless(field.take())
                };
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = timeless(item.take());
            }
        }
        _ => {}
    }
    value
}

fn text_of(page: &str) -> String {
    fs::read_to_string(root().join(page)).expect(page)
}

/// README.md, RUNBOOK.md and the pages in `docs/`, by name.
fn all_pages() -> Vec<String> {
    let mut pages: Vec<String> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    pages.extend(["README.md", "RUNBOOK.md"].map(str::to_owned));
    pages.sort();
    pages
}

/// A page's service, and the folder in which its examples run.
struct Stage {
    system: System,
    folder: Folder,
    settings: Vec<(&'static str, String)>,
}

impl Stage {
    async fn of(page: &str) -> Self {
        let folder = Folder::new();
        let settings = if page == "docs/security.md" {
            secure(&folder)
        } else {
            Vec::new()
        };
        let pairs: Vec<(&str, &str)> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let system = System::spawn(&pairs).await;
        first_sale(&system).await;
        Self {
            system,
            folder,
            settings,
        }
    }

    /// Runs the examples, and answers what each of them wrote.
    fn run(&self, page: &str, examples: &[Example]) -> Vec<String> {
        let mut script = String::new();
        for example in examples {
            script += &example.commands.replace(ADDRESS, self.system.base());
            script += &format!("\nprintf '\\n%s\\n' '{END_OF_EXAMPLE}'\n");
        }
        // psql takes from the environment what this URL leaves out. The service's own has parameters that psql refuses.
        let database = &self.system.database;
        let ran = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(self.folder.path())
            .env("PATH", search_path())
            .env("DATABASE_URL", format!("postgres:///{}", database.name()))
            .envs(database.psql_environment())
            .env_remove("ADMIN_TOKEN")
            .envs(self.settings.iter().map(|(name, value)| (*name, value)))
            .output()
            .expect("bash");
        let written = String::from_utf8(ran.stdout).unwrap();
        let end = format!("\n{END_OF_EXAMPLE}\n");
        let mut parts: Vec<String> = written.split(&end).map(str::to_owned).collect();
        // What follows the last end is no example's, unless one failed.
        let last = parts.pop().unwrap_or_default();
        let errors = String::from_utf8_lossy(&ran.stderr);
        let failed = examples
            .get(parts.len())
            .map_or("", |example| example.commands.as_str());
        assert!(
            ran.status.success() && parts.len() == examples.len(),
            "{page}: {failed}\n{last}\n{errors}"
        );
        parts
    }
}

/// The page on security speaks of an API with a token and with a key.
fn secure(folder: &Folder) -> Vec<(&'static str, String)> {
    let made = output("flashsale-api", &["new-key", "first"], &[]);
    assert!(made.status.success(), "{made:?}");
    let keys = folder.path().join("api-keys");
    fs::write(&keys, made.stdout).unwrap();
    vec![
        ("ADMIN_TOKEN", "the-token-of-the-admin".to_owned()),
        ("API_KEYS_FILE", keys.to_str().unwrap().to_owned()),
    ]
}

/// What `make up` does last (`deploy/local/smoke.sh`): it sells the only unit of product 1.
async fn first_sale(system: &System) {
    let product = json!({"name": "smoke test", "stock": 1});
    let product = system
        .admin_json(Method::POST, "/products", &product)
        .await
        .expect(201);
    let hold = json!({"product_id": id(&product), "user_id": 42});
    let hold = system
        .admin_json(Method::POST, "/reservations", &hold)
        .await
        .expect(201);
    let confirm = format!("/reservations/{}/confirm", id(&hold));
    let confirm = system.request(Method::POST, &confirm);
    system.as_admin(confirm).await.expect(200);
    assert_eq!([id(&product), id(&hold)], [1, 1]);
}

/// With the service's programs first. They lie beside the folder of this one.
fn search_path() -> OsString {
    let mut programs = env::current_exe().unwrap();
    programs.pop();
    programs.pop();
    let inherited = env::var_os("PATH").unwrap_or_default();
    env::join_paths(iter::once(programs).chain(env::split_paths(&inherited))).unwrap()
}

fn json_of(text: &str, commands: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?} of\n{commands}"))
}

#[test]
fn no_page_has_lost_its_examples() {
    let mut pages = all_pages();
    pages.retain(|page| !examples(&text_of(page)).is_empty());
    assert_eq!(pages, PAGES);
}

#[tokio::test]
async fn the_examples_work_in_the_order_of_each_page() {
    let mut answers = 0;
    for page in PAGES {
        let examples = examples(&text_of(page));
        let written = Stage::of(page).await.run(page, &examples);
        for (Example { commands, answer }, written) in examples.iter().zip(written) {
            let Some(answer) = answer else { continue };
            answers += 1;
            let last = written.lines().last().unwrap_or_default();
            let given = timeless(json_of(last, commands));
            let wanted = timeless(json_of(answer, page));
            assert_eq!(given, wanted, "{page}: {commands}");
        }
    }
    assert!(answers > 10, "the pages have lost their answers");
}

/// It is read first, and by people who have little time.
#[test]
fn the_readme_is_short() {
    let words = text_of("README.md").split_whitespace().count();
    assert!(words < 900, "{words} words");
}

#[test]
fn examples_are_found_in_a_page() {
    let page = "text\n```sh\nnot this\n```\n```sh test\na\nb\n```\n```json\n{}\n```\n\
        1. ```sh\n```\n   ```sh test\n   c\n   ```\n\n```json\nnot an answer\n```\n";
    let example = |commands: &str, answer: Option<&str>| Example {
        commands: commands.to_owned(),
        answer: answer.map(str::to_owned),
    };
    let wanted = [example("a\nb", Some("{}")), example("   c", None)];
    assert_eq!(examples(page), wanted);
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_in_it() {
    let mut links = 0;
    let more = ["ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "SECURITY"];
    let more = more.map(|name| format!("{name}.md"));
    for page in all_pages().into_iter().chain(more) {
        let text = text_of(&page);
        let inline = text.split("](").skip(1);
        let inline = inline.filter_map(|rest| Some(rest.split_once(')')?.0));
        // `[name]: target` on a line of its own.
        let named = text.lines().filter(|line| line.starts_with('['));
        let named = named.filter_map(|line| Some(line.split_once("]: ")?.1));
        let targets = inline.chain(named);
        for target in targets.filter(|target| !target.starts_with("http")) {
            links += 1;
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(&page).parent().unwrap();
            let file = match path {
                "" => root().join(&page),
                path => root().join(folder).join(path),
            };
            assert!(file.exists(), "{page}: {target}");
            if !heading.is_empty() {
                let text = fs::read_to_string(&file).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let found = headings.map(anchor).any(|anchor| anchor == heading);
                assert!(found, "{page}: {target}");
            }
        }
    }
    assert!(links > 50, "{links}");
}

/// Each release has its entry, and what comes after it another one.
#[test]
fn the_changelog_has_this_version_below_what_is_unreleased() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).expect("CHANGELOG.md");
    let headings = changelog.lines().filter(|line| line.starts_with("## ["));
    let headings: Vec<_> = headings.take(2).collect();
    let release = concat!("## [", env!("CARGO_PKG_VERSION"), "] - 20");
    let [unreleased, newest] = headings[..] else {
        panic!("{headings:?}");
    };
    assert_eq!(unreleased, "## [Unreleased]");
    assert!(newest.starts_with(release), "{newest}, not {release}");
}
