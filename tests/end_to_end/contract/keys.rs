//! API keys: the routes that need one, and how keys are created and replaced.

use std::{fs, path::PathBuf};

use reqwest::Method;
use serde_json::json;

use super::documents::operations;
use crate::support::{Answer, Client, Folder, System, eventually, output, start};

const TOKEN: &str = "an admin's token";

/// Routes that need no key.
const OPEN: [&str; 10] = [
    "GET /livez",
    "GET /readyz",
    "GET /health",
    "GET /metrics",
    "GET /",
    "GET /live/{file}",
    "GET /openapi.json",
    "GET /asyncapi.json",
    "GET /docs",
    "GET /docs/{file}",
];

const ADMIN_ACTS: [&str; 13] = [
    "POST /products",
    "PATCH /products/{id}",
    "GET /products/{id}/stock",
    "POST /products/{id}/stock",
    "PUT /products/{id}/stock",
    "POST /reservations/{id}/return",
    "POST /admin/reservations/sync-expired",
    "GET /admin/live",
    "GET /admin/audit",
    "POST /admin/counters/rebuild",
    "GET /admin/outbox/dead",
    "POST /admin/outbox/requeue",
    "POST /admin/outbox/replay",
];

/// A file of API keys.
pub(super) struct File {
    folder: Folder,
    lines: Vec<String>,
}

impl File {
    pub(super) fn new() -> Self {
        Self {
            folder: Folder::new(),
            lines: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// Creates a key as an operator would, adds its line, and returns the key.
    pub(super) fn add(&mut self, name: &str) -> String {
        let made = output("flashsale-api", &["new-key", name], &[]);
        assert!(made.status.success(), "{made:?}");
        self.lines.push(String::from_utf8(made.stdout).unwrap());
        self.write(&self.lines.concat());
        let shown = String::from_utf8(made.stderr).unwrap();
        shown.lines().last().unwrap().to_owned()
    }

    /// Removes the oldest key.
    fn remove_first(&mut self) {
        self.lines.remove(0);
        self.write(&self.lines.concat());
    }

    /// Replaces the file as a whole, as docs/security.md says.
    fn write(&self, content: &str) {
        let new = self.folder.path().join("keys.new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    async fn system(&self, settings: &[(&str, &str)]) -> System {
        let path = self.path();
        let own = [("API_KEYS_FILE", path.to_str().unwrap())];
        System::with(&[&own, settings].concat()).await
    }

    async fn spawn(&self) -> System {
        let path = self.path();
        System::spawn(&[("API_KEYS_FILE", path.to_str().unwrap())]).await
    }
}

async fn lets_in(client: &Client, key: &str) -> bool {
    let request = client.request(Method::GET, "/products").bearer_auth(key);
    let answer = Answer::to(request).await;
    if answer.status == 401 {
        answer.expect_problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        return false;
    }
    answer.expect(200);
    true
}

async fn soon(what: &str, client: &Client, key: &str, wanted: bool) {
    eventually(what, async || {
        (lets_in(client, key).await == wanted).then_some(())
    })
    .await;
}

/// The routes in openapi.json, such as `GET /products/{id}`, with their security schemes.
fn routes() -> Vec<(String, Vec<&'static str>)> {
    let routes = operations().map(|(path, method, operation)| {
        let schemes = operation["security"].as_array().into_iter().flatten();
        let schemes = schemes.flat_map(|scheme| scheme.as_object().unwrap().keys());
        let route = format!("{} {path}", method.to_uppercase());
        (route, schemes.map(String::as_str).collect())
    });
    routes.collect()
}

/// The routes that need a token, but not of this scheme.
fn without(scheme: &str) -> Vec<String> {
    let mut routes = routes();
    routes.retain(|(_, schemes)| !schemes.is_empty() && !schemes.contains(&scheme));
    routes.into_iter().map(|(route, _)| route).collect()
}

/// The routes that refuse a request with this header.
async fn closed(system: &System, header: (&str, &str)) -> Vec<String> {
    let mut closed = Vec::new();
    for (route, _) in routes() {
        let (method, path) = route.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = system.request(method, &path.replace("{id}", "x"));
        let answer = Answer::to(request.header(header.0, header.1)).await;
        if answer.status == 401 {
            closed.push(route);
        }
    }
    closed
}

#[tokio::test]
async fn each_route_takes_its_credential() {
    let mut file = File::new();
    let key = file.add("shop");
    let system = file.system(&[("ADMIN_TOKEN", TOKEN)]).await;
    let mut guarded: Vec<_> = routes().into_iter().map(|(route, _)| route).collect();
    guarded.retain(|route| !OPEN.contains(&&**route));
    assert!(guarded.len() > 15, "{guarded:?}");

    let nobody = closed(&system, ("accept", "*/*")).await;
    assert_eq!(nobody, guarded);
    assert_eq!(nobody, without("none"), "openapi.json differs");

    let shop = closed(&system, ("authorization", &format!("Bearer {key}"))).await;
    assert_eq!(shop, ADMIN_ACTS);
    assert_eq!(shop, without("api_key"), "openapi.json differs");

    let admin = closed(&system, ("authorization", &format!("Bearer {TOKEN}"))).await;
    assert_eq!(admin, [""; 0]);
    assert_eq!(admin, without("admin_token"), "openapi.json differs");
}

#[tokio::test]
async fn what_is_no_key_is_refused_before_anything_is_read() {
    let mut file = File::new();
    let key = file.add("shop");
    let hash = file.lines[0].split_whitespace().last().unwrap();
    let system = file.system(&[]).await;
    for given in [
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        &key,
        &format!("Bearer {hash}"),
        &format!("Bearer shop {key}"),
        &format!("Bearer {}", &key[..key.len() - 1]),
        &format!("Bearer {key}0"),
        &format!("Bearer {}", key.to_uppercase()),
        &format!("Basic {key}"),
    ] {
        let request = system
            .request(Method::POST, "/reservations")
            .body("nonsense");
        let answer = Answer::to(request.header("authorization", given)).await;
        answer.expect_problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{given}");
    }
    let header = ("x-api-key", key.as_str());
    let other_header = system
        .request(Method::GET, "/products")
        .header(header.0, header.1);
    Answer::to(other_header)
        .await
        .expect_problem(401, "unauthorized");
    // The scheme's name is not case-sensitive (RFC 9110).
    let request = system.request(Method::GET, "/products");
    let request = request.header("authorization", format!("bearer {key}"));
    Answer::to(request).await.expect(200);
}

#[tokio::test]
async fn a_hold_lives_on_a_key() {
    let mut file = File::new();
    let key = file.add("shop");
    // Without ADMIN_TOKEN, admin routes are allowed by address, as without API keys.
    let system = file.system(&[]).await;
    let product = system.create_product(1).await;
    let body = json!({"product_id": product, "user_id": 1});
    let reserve = || system.request(Method::POST, "/reservations").json(&body);
    Answer::to(reserve())
        .await
        .expect_problem(401, "unauthorized");
    Answer::to(reserve().bearer_auth(&key)).await.expect(201);
    let confirm = system.request(Method::POST, "/reservations/1/confirm");
    Answer::to(confirm.bearer_auth(&key)).await.expect(200);
    let series = r#"flashsale_client_requests_total{client="shop"}"#;
    assert_eq!(system.metric(series).await, 2.0);
}

#[tokio::test]
async fn a_key_is_replaced_without_a_restart() {
    let mut file = File::new();
    let old = file.add("shop");
    let system = file.system(&[]).await;
    assert!(lets_in(&system, &old).await);

    let new = file.add("shop");
    soon("the new key", &system, &new, true).await;
    assert!(lets_in(&system, &old).await);

    // The original content again.
    file.write(&file.lines[0]);
    soon("the end of the new key", &system, &new, false).await;

    file.remove_first();
    soon("the new key", &system, &new, true).await;
    soon("the end of the old key", &system, &old, false).await;
    assert!(lets_in(&system, &new).await);
}

#[tokio::test]
async fn a_mounted_secret_is_followed() {
    // As Kubernetes updates it: keys -> ..data/keys, ..data -> ..1, and then ..data -> ..2 by a rename.
    let (mut first, mut second) = (File::new(), File::new());
    let (old, new) = (first.add("shop"), second.add("shop"));
    let mount = File::new();
    let link = |target: PathBuf, name: &str| {
        let new = mount.folder.path().join("new");
        std::os::unix::fs::symlink(target, &new).unwrap();
        fs::rename(new, mount.folder.path().join(name)).unwrap();
    };
    link(first.folder.path().to_owned(), "..data");
    link("..data/keys".into(), "keys");
    let system = mount.system(&[]).await;
    assert!(lets_in(&system, &old).await);

    link(second.folder.path().to_owned(), "..data");
    soon("the new key", &system, &new, true).await;
    assert!(!lets_in(&system, &old).await);
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_told_of_once() {
    let mut file = File::new();
    let key = file.add("shop");
    let mut system = file.spawn().await;
    system.child().logs("API keys are required").await;
    file.write("# keys\n\nshop abc\n");
    let told = system.child().logs("the keys stay unchanged").await;
    assert!(told["message"].to_string().contains("line 3"), "{told}");
    assert!(lets_in(&system, &key).await);

    fs::remove_file(file.path()).unwrap();
    system.child().logs("No such file").await;
    assert!(lets_in(&system, &key).await);

    let next = file.add("app");
    soon("the new key", &system, &next, true).await;
    system.child().terminate();
    assert!(system.child().ends().await.success());
    let said = system.child().all_it_said().await;
    assert_eq!(said.matches("line 3").count(), 1, "{said}");
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    assert!(!said.contains(&key) && !said.contains(&next), "{said}");
}

#[tokio::test]
async fn a_bad_file_ends_the_start_and_is_explained() {
    let mut file = File::new();
    let key = file.add("shop");
    let line = file.lines[0].clone();
    let hash = line.split_whitespace().last().unwrap();
    for (content, wanted) in [
        ("# no key\n".to_owned(), "the file has no key"),
        (format!("{line}\nshop\n"), "line 3"),
        (format!("shop {hash} today\n"), "line 1"),
        (format!("shop {}\n", &hash[1..]), "64 hex digits"),
        (format!("shop +{}\n", &hash[1..]), "64 hex digits"),
        (format!("sh\u{f6}p {hash}\n"), "letters"),
        (format!("{} {hash}\n", "x".repeat(65)), "letters"),
        (format!("{line}other {hash}\n"), "line 2"),
        (format!("shop {key}\n"), "write its SHA-256"),
    ] {
        file.write(&content);
        let path = file.path();
        let settings = [
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("API_KEYS_FILE", path.to_str().unwrap()),
        ];
        let mut process = start("flashsale-api", &settings);
        assert!(!process.ends().await.success(), "{content:?} is taken");
        let said = process.all_it_said().await;
        assert!(said.contains("API_KEYS_FILE"), "{said}");
        assert!(said.contains(wanted), "{content:?}: {said}");
        assert!(!said.contains(&key), "{said}");
    }
}

#[tokio::test]
async fn the_file_may_be_written_by_hand() {
    let file = File::new();
    // printf %s fsk_by_hand | sha256sum
    let hash = "D5500DBDB407C49791CBE82668578343333D8E3BDFCCDF2C19D263BD2EE1903C";
    file.write(&format!("\n  # the shop\n\tshop.eu-1_x   {hash}  \r\n"));
    let system = file.system(&[("ADMIN_TOKEN", "")]).await;
    soon("the key", &system, "fsk_by_hand", true).await;
}

#[test]
fn a_new_key_has_a_name() {
    for name in ["", "two words", "a/b", "#x"] {
        let refused = output("flashsale-api", &["new-key", name], &[]);
        assert!(!refused.status.success(), "{name:?} is taken");
        assert_eq!(refused.stdout, b"");
    }
}
