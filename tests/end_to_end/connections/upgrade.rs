//! An upgrade under load, by the steps of docs/versions.md: expand, roll, back to the old processes, contract.
//!
//! `make upgrade` names the folder with the programs of an older release in UPGRADE_FROM. Without it, one build stands for both
//! releases: then the schema grows by files of a release to come, and `migrate` installs every function again. So the test
//! needs no second build in CI.

use std::{
    env,
    mem::take,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
};

use futures_util::future::join_all;
use inventory::migrate::{NUMBERED, PATIENCE, migrate_with};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::task::spawn_blocking;

use super::{
    haproxy::{Layer, in_front_of, installed},
    rolling::{ready, replace},
};
use crate::{
    events::stage::Broker,
    support::{Child, Client, Database, eventually, id, output, start, test_server},
};

const PRODUCTS: usize = 3;
const SHOPPERS: usize = 12;

/// Requests between two steps of the upgrade.
const BETWEEN_STEPS: i64 = 300;

/// What a next release may add, as migrations/README.md allows it: one file for each table in use.
const NEXT: [&str; 4] = [
    "alter table products add column next_note text",
    "alter table reservations add column next_note text",
    "alter table outbox_events add column next_note text",
    "alter table idempotency_keys add column next_note text",
];

/// The folder of a release's programs. `None`: this build.
#[derive(Clone, Copy)]
struct Release<'a>(Option<&'a Path>);

impl Release<'_> {
    fn program(self, name: &str) -> String {
        let path = self.0.map(|folder| folder.join(name));
        path.map_or(name.to_owned(), |path| path.to_str().unwrap().to_owned())
    }

    /// Runs `flashsale-api migrate`, while other tasks go on.
    async fn migrate(self, database: &Database) {
        let (program, url) = (self.program("flashsale-api"), database.url.clone());
        let migrating =
            spawn_blocking(move || output(&program, &["migrate"], &[("DATABASE_URL", &url)]));
        let migrated = migrating.await.unwrap();
        assert!(migrated.status.success(), "{migrated:?}");
    }
}

/// What the processes share.
struct Stage {
    database: Database,
    broker: Broker,
}

impl Stage {
    fn start(&self, release: Release<'_>, name: &str, address: &str) -> Child {
        let prefix = format!("upgrade-{}:", self.database.name());
        let settings = [
            ("LISTEN_ADDR", address),
            ("DATABASE_URL", &self.database.url),
            ("REDIS_URL", &test_server("TEST_REDIS_URL")),
            ("REDIS_KEY_PREFIX", &prefix),
            ("AMQP_URL", &self.broker.url),
            ("DRAIN_SECONDS", "2"),
            // No hold may end during the test.
            ("HOLD_SECONDS", "3600"),
            // A slow machine must not cause overload errors.
            ("DATABASE_ACQUIRE_MILLISECONDS", "60000"),
            ("LANE_WAIT_MILLISECONDS", "60000"),
        ];
        start(&release.program(name), &settings)
    }

    async fn schema(&self) -> i32 {
        sqlx::query_scalar("select version from schema_version")
            .fetch_one(&self.database.pool)
            .await
            .unwrap()
    }

    /// Lets the schema grow as a release to come would, by the code of `migrate`, which also installs all functions again.
    async fn expand_beyond(&self) {
        let forget = "update installed_functions set source_md5 = 'of another release'";
        self.database.execute(forget).await;
        let first = NUMBERED.iter().map(|file| file.version).max().unwrap() + 1;
        let next = (first..).zip(NEXT).map(|(version, change)| {
            let text = format!("{change};\nupdate schema_version set version = {version};");
            let text = AssertSqlSafe(text).into_sql_str();
            Migration::new(
                version,
                "next".into(),
                MigrationType::ReversibleUp,
                text,
                false,
            )
        });
        let files = Migrator::with_migrations(NUMBERED.iter().cloned().chain(next).collect());
        let mut connection = self.database.pool.acquire().await.unwrap();
        let migrated = migrate_with(&files, &mut connection, PATIENCE)
            .await
            .unwrap();
        assert_eq!(migrated.applied.len(), NEXT.len());
        assert!(migrated.functions.len() > 30, "{migrated:?}");
    }
}

/// A request with a key, and its answer.
struct Asked {
    path: String,
    key: String,
    body: Option<Value>,
    wanted: u16,
    answer: Value,
}

/// The shoppers, who accept no failed request.
struct Sale {
    client: Client,
    products: Vec<i64>,
    next: AtomicI64,
    is_over: AtomicBool,
    /// Units that are held and sold, by product.
    counters: Mutex<Vec<(i64, i64)>>,
    /// Some requests of the first shoppers.
    first: Mutex<Vec<Asked>>,
    knows: Knows,
    /// The product that users wait for, the users, and the units that came.
    wanted: i64,
    joined: AtomicI64,
    added: AtomicI64,
}

/// What the older release has. Whatever both releases have must work throughout.
struct Knows {
    orders: bool,
    waitlist: bool,
}

impl Knows {
    /// Asks a process of that release.
    async fn of(client: &Client) -> Self {
        let document = client.request(Method::GET, "/openapi.json").send().await;
        let document: Value = document.unwrap().json().await.unwrap();
        let has = |path: &str| document["paths"].get(path).is_some();
        Self {
            orders: has("/reservations/batch/confirm"),
            waitlist: has("/products/{id}/waitlist"),
        }
    }
}

/// The key of a request of this user, who may have none.
fn key(verb: &str, user: i64) -> String {
    match user % 4 {
        0 => String::new(),
        _ => format!("{verb}-{user}"),
    }
}

impl Sale {
    async fn open(client: Client) -> Self {
        let mut sale = Self {
            knows: Knows::of(&client).await,
            client,
            counters: Mutex::new(vec![(0, 0); PRODUCTS]),
            products: Vec::new(),
            next: AtomicI64::new(1),
            is_over: AtomicBool::new(false),
            first: Mutex::default(),
            wanted: 0,
            joined: AtomicI64::new(0),
            added: AtomicI64::new(0),
        };
        for _ in 0..PRODUCTS {
            sale.products.push(sale.create(i32::MAX).await);
        }
        sale.wanted = sale.create(0).await;
        sale
    }

    async fn create(&self, stock: i32) -> i64 {
        let product = json!({"name": "iPhone 15", "stock": stock});
        let (product, _) = self.send("/products", "", Some(&product), 201).await;
        id(&product)
    }

    async fn ask(&self, path: &str, key: &str, body: Option<&Value>, wanted: u16) -> Value {
        let (answer, _) = self.send(path, key, body, wanted).await;
        // Another copy of another release may get the repeat.
        if key.ends_with('7') {
            let (again, is_repeat) = self.send(path, key, body, wanted).await;
            assert_eq!(again, answer, "{path} again");
            assert!(is_repeat, "{path} was done twice");
            let (path, key, body) = (path.to_owned(), key.to_owned(), body.cloned());
            let mut first = self.first.lock().unwrap();
            if first.len() < 30 {
                first.push(Asked {
                    path,
                    key,
                    body,
                    wanted,
                    answer: answer.clone(),
                });
            }
        }
        answer
    }

    /// Not checked against openapi.json, because an older release may answer. Returns whether the answer is a stored one.
    async fn send(
        &self,
        path: &str,
        key: &str,
        body: Option<&Value>,
        wanted: u16,
    ) -> (Value, bool) {
        let mut request = self.client.request(Method::POST, path);
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.expect("no answer");
        let is_repeat = response.headers().contains_key("idempotency-replayed");
        let (status, text) = (response.status(), response.text().await.expect("no body"));
        assert_eq!(status, wanted, "{path}: {text}");
        (serde_json::from_str(&text).unwrap(), is_repeat)
    }

    /// Each user does one thing after the other, with keys or without, until the end of the sale.
    async fn shop(&self) {
        while !self.is_over.load(Relaxed) {
            let user = self.next.fetch_add(1, Relaxed);
            match user / PRODUCTS as i64 % 5 {
                0 => self.reserve_and(Some("confirm"), user).await,
                1 => self.reserve_and(Some("cancel"), user).await,
                2 if self.knows.orders => self.order(user).await,
                3 if self.knows.waitlist => self.wait(user).await,
                _ => self.reserve_and(None, user).await,
            }
        }
    }

    /// Reserves, and then confirms, cancels or keeps the hold.
    async fn reserve_and(&self, act: Option<&str>, user: i64) {
        let number = user as usize % PRODUCTS;
        let hold = self.reserve(number, user).await;
        if let Some(verb) = act {
            let path = format!("/reservations/{hold}/{verb}");
            self.ask(&path, &key(verb, user), None, 200).await;
        }
        let (held, sold) = match act {
            Some("confirm") => (0, 1),
            Some(_) => (0, 0),
            None => (1, 0),
        };
        self.count(number, held, sold);
    }

    async fn reserve(&self, number: usize, user: i64) -> i64 {
        let body = json!({"product_id": self.products[number], "user_id": user});
        let key = key(&format!("reserve-{number}"), user);
        id(&self.ask("/reservations", &key, Some(&body), 201).await)
    }

    /// Buys two products at once.
    async fn order(&self, user: i64) {
        let numbers = [user as usize % PRODUCTS, (user as usize + 1) % PRODUCTS];
        let mut ids = Vec::new();
        for number in numbers {
            ids.push(self.reserve(number, user).await);
        }
        let key = key("order", user);
        let path = "/reservations/batch/confirm";
        self.ask(path, &key, Some(&json!({"ids": ids})), 200).await;
        for number in numbers {
            self.count(number, 0, 1);
        }
    }

    /// Waits for the product that has no units. Each second user adds one, which goes to the first in line.
    async fn wait(&self, user: i64) {
        let path = format!("/products/{}/waitlist", self.wanted);
        let body = json!({"user_id": user});
        self.ask(&path, &key("wait", user), Some(&body), 201).await;
        self.joined.fetch_add(1, Relaxed);
        if user % 2 == 0 {
            let path = format!("/products/{}/stock", self.wanted);
            let body = json!({"delta": 1, "reason": "found"});
            self.ask(&path, &key("add", user), Some(&body), 200).await;
            self.added.fetch_add(1, Relaxed);
        }
    }

    fn count(&self, number: usize, held: i64, sold: i64) {
        let mut counters = self.counters.lock().unwrap();
        let own = &mut counters[number];
        *own = (own.0 + held, own.1 + sold);
    }

    /// Waits until the shoppers have sent some more requests.
    async fn goes_on(&self) {
        let before = self.next.load(Relaxed);
        eventually("more requests", async || {
            (self.next.load(Relaxed) >= before + BETWEEN_STEPS).then_some(())
        })
        .await;
    }

    /// The counters of the service are those of the shoppers.
    async fn check(&self, copy: &Client) -> usize {
        let counters = self.counters.lock().unwrap().clone();
        for (product, (held, sold)) in self.products.iter().zip(&counters) {
            let found = copy.product(*product).await;
            assert_eq!(
                (&found["held"], &found["sold"]),
                (&json!(held), &json!(sold))
            );
        }
        let (joined, added) = (self.joined.load(Relaxed), self.added.load(Relaxed));
        if self.knows.waitlist {
            assert!(joined > added && added > 0, "{added} of {joined}");
            let found = copy.product(self.wanted).await;
            assert_eq!(
                (&found["held"], &found["waiting"]),
                (&json!(added), &json!(joined - added))
            );
        }
        counters.iter().map(|(_, sold)| *sold as usize).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_under_load_fails_no_request() {
    let folder = env::var_os("UPGRADE_FROM");
    let (old, new) = (Release(folder.as_ref().map(Path::new)), Release(None));
    let Some(program) = installed() else {
        assert!(folder.is_none(), "'make upgrade' needs haproxy");
        return;
    };
    let stage = Stage {
        database: Database::create_empty_on(&test_server("TEST_DATABASE_URL")).await,
        broker: Broker::shared().await,
    };
    old.migrate(&stage.database).await;
    let before = stage.schema().await;
    let start = |release, name| stage.start(release, name, "127.0.0.1:0");
    let mut copies = [start(old, "flashsale-api"), start(old, "flashsale-api")];
    let addresses = [copies[0].address().await, copies[1].address().await];
    let mut workers = ["flashsale-expirer", "flashsale-relay"].map(|name| (name, start(old, name)));
    let proxy = in_front_of(&addresses, Layer::Http, program).await;
    readiness(&proxy.address, 200).await;
    let sale = Sale::open(proxy.client()).await;

    let upgrade = async {
        sale.goes_on().await;
        // Expand.
        match old.0 {
            Some(_) => new.migrate(&stage.database).await,
            None => stage.expand_beyond().await,
        }
        sale.goes_on().await;
        // Roll.
        for (name, child) in &mut workers {
            replace(child, || start(new, name)).await;
        }
        for (copy, address) in copies.iter_mut().zip(&addresses) {
            replace(copy, || stage.start(new, "flashsale-api", address)).await;
            ready(address).await;
            sale.goes_on().await;
        }
        // Back: the workers, and one of the copies.
        for (name, child) in &mut workers {
            replace(child, || start(old, name)).await;
        }
        let [_, back] = &mut copies;
        replace(back, || stage.start(old, "flashsale-api", &addresses[1])).await;
        ready(&addresses[1]).await;
        sale.goes_on().await;
        sale.is_over.store(true, Relaxed);
    };
    tokio::join!(join_all((0..SHOPPERS).map(|_| sale.shop())), upgrade);
    println!(
        "{} shoppers, and no failed request",
        sale.next.load(Relaxed)
    );

    // By the copy that is new: what an older release answers is not what openapi.json says.
    let copy = Client::new(format!("http://{}", addresses[0]), None);
    let sold = sale.check(&copy).await;
    copy.assert_clean_audit().await;
    // The old release stored these answers, most of them.
    let first = take(&mut *sale.first.lock().unwrap());
    for asked in &first {
        let again = sale
            .send(&asked.path, &asked.key, asked.body.as_ref(), asked.wanted)
            .await;
        assert_eq!(again, (asked.answer.clone(), true), "{}", asked.path);
    }
    stage.broker.receive(sold).await;
    contract(&stage, old, before, &addresses[0]).await;
}

/// Contract: a later file turns the old release away, and the new one does not notice.
async fn contract(stage: &Stage, old: Release<'_>, before: i32, new: &str) {
    let now = stage.schema().await;
    if old.0.is_none() || now == before {
        return;
    }
    let contract = "update schema_version set compatible_from = version";
    stage.database.execute(contract).await;
    let mut late = stage.start(old, "flashsale-api", "127.0.0.1:0");
    let address = late.address().await;
    readiness(&address, 503).await;
    readiness(new, 200).await;
}

/// Waits until a process says whether it is ready. Its answer may be that of an older release.
async fn readiness(address: &str, wanted: u16) {
    let client = Client::new(format!("http://{address}"), None);
    eventually(&format!("{wanted} from {address}"), async || {
        let answer = client.request(Method::GET, "/readyz").send().await;
        (answer.ok()?.status() == wanted).then_some(())
    })
    .await;
}
