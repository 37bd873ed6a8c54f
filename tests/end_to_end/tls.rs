//! TLS to all three servers, with certificates of a private authority.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::support::{
    Child, Client, Database, Folder, Server, Service, System, eventually, output, start,
};

/// A certificate authority, and a server certificate for 127.0.0.1 only.
pub(crate) struct Authority(Folder);

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self(Folder::new());
        let config = "[req]\ndistinguished_name = name\n[name]\n\
            [ca]\nbasicConstraints = critical, CA:true\n\
            [server]\nbasicConstraints = critical, CA:false\nsubjectAltName = IP:127.0.0.1\n";
        fs::write(authority.path("config"), config).unwrap();
        authority.sign("ca", &[]);
        authority.sign("server", &["-CA", "ca.crt", "-CAkey", "ca.key"]);
        authority
    }

    fn sign(&self, name: &str, by: &[&str]) {
        let output = Command::new("openssl")
            .args(["req", "-x509", "-config", "config", "-nodes", "-days", "2"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-subj", &format!("/CN=flashsale test {name}")])
            .args(["-extensions", name])
            .args(["-keyout", &format!("{name}.key")])
            .args(["-out", &format!("{name}.crt")])
            .args(by)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn certificate(&self) -> String {
        self.path("ca.crt").to_str().unwrap().to_owned()
    }

    fn server(&self, service: Service) -> Server {
        let folder = self.0.path().to_str().unwrap();
        Server::start_with(service, &[("FLASHSALE_LOCAL_TLS", folder)])
    }
}

/// Three servers with certificates, and a database on one of them.
struct Stage {
    authority: Authority,
    database: Option<Database>,
    database_url: String,
    redis: Server,
    rabbitmq: Server,
    // Declared after the database, so that it is dropped after it.
    _postgres: Server,
}

impl Stage {
    async fn new() -> Self {
        let authority = Authority::new();
        let of = &|service| authority.server(service);
        let (postgres, redis, rabbitmq) = std::thread::scope(|scope| {
            let [postgres, redis, rabbitmq] =
                [Service::Postgres, Service::Redis, Service::Rabbitmq]
                    .map(|service| scope.spawn(move || of(service)));
            (
                postgres.join().unwrap(),
                redis.join().unwrap(),
                rabbitmq.join().unwrap(),
            )
        });
        let database = Database::create_empty_on(&postgres.url).await;
        let database_url = database
            .url
            .replace("sslmode=prefer", "sslmode=verify-full");
        assert!(database_url.contains("verify-full"), "{database_url}");
        let settings = [
            ("DATABASE_URL", &*database_url),
            ("SSL_CERT_FILE", &authority.certificate()),
        ];
        let migrated = output("flashsale-api", &["migrate"], &settings);
        assert!(migrated.status.success(), "{migrated:?}");
        Self {
            authority,
            database: Some(database),
            database_url,
            redis,
            rabbitmq,
            _postgres: postgres,
        }
    }

    fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("DATABASE_URL", self.database_url.clone()),
            ("REDIS_URL", self.redis.url.clone()),
            ("AMQP_URL", self.rabbitmq.url.clone()),
            ("SSL_CERT_FILE", self.authority.certificate()),
        ]
    }
}

/// The settings, with one of them changed.
fn with<'a>(
    settings: &'a [(&'static str, String)],
    name: &'static str,
    value: &'a str,
) -> Vec<(&'static str, &'a str)> {
    let kept = settings.iter().filter(|(other, _)| *other != name);
    let kept = kept.map(|(name, value)| (*name, value.as_str()));
    kept.chain([(name, value)]).collect()
}

async fn dependencies(process: &mut Child) -> (u16, Value) {
    let address = process.address().await;
    let ready = Client::new(format!("http://{address}"), None)
        .get("/readyz")
        .await;
    (ready.status.as_u16(), ready.json()["dependencies"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_over_tls() {
    let mut stage = Stage::new().await;
    let settings = stage.settings();
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let relay_only = |pair: &(&str, &str)| pair.0 == "AMQP_URL";
    let (amqp, common): (Vec<_>, Vec<_>) = settings.iter().copied().partition(relay_only);
    let mut system = System::spawn_on(stage.database.take().unwrap(), &common).await;
    let mut expirer = system.beside("flashsale-expirer", &[]);
    let mut relay = system.beside("flashsale-relay", &amqp);
    let up = json!({"postgres": "up", "redis": "up"});
    let all_up = json!({"postgres": "up", "rabbitmq": "up", "redis": "up"});
    for (process, wanted) in [
        (system.child(), &up),
        (&mut expirer, &up),
        (&mut relay, &all_up),
    ] {
        eventually("everything is up", async || {
            (dependencies(process).await.1 == *wanted).then_some(())
        })
        .await;
    }

    let product = system.create_product(2).await;
    let sold = system.reserve(product, 1).await;
    system.confirm(&sold).await;
    let due = system.reserve(product, 2).await;
    system.backdate(&due).await;
    let pool = &system.database.pool;
    eventually("the event is published, the hold is expired", async || {
        let done = "select (select count(*) = 1 from outbox_events where published_at is not null)
            and (select count(*) = 1 from reservations where status = 'EXPIRED')";
        let done: bool = sqlx::query_scalar(done).fetch_one(pool).await.unwrap();
        done.then_some(())
    })
    .await;
    let encrypted: bool = sqlx::query_scalar(
        "select bool_and(s.ssl) and count(distinct a.application_name) = 3
        from pg_stat_ssl s join pg_stat_activity a using (pid)
        where a.application_name like 'flashsale-%'",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert!(encrypted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_authority_signed_is_refused() {
    let stage = Stage::new().await;
    let settings = stage.settings();
    let stranger = Authority::new();
    let other = &stranger.certificate();
    // A name that the certificate does not have.
    let elsewhere = |url: &str| url.replace("127.0.0.1", "localhost");
    let database = elsewhere(&stage.database_url);
    let redis = elsewhere(&stage.redis.url);
    let amqp = elsewhere(&stage.rabbitmq.url);
    // The other authority has the same name.
    let (unknown, name) = ("BadSignature", "not valid for name");
    for (program, setting, value, postgres, told, why) in [
        (
            "flashsale-api",
            "SSL_CERT_FILE",
            other,
            "down",
            "cannot work",
            unknown,
        ),
        (
            "flashsale-api",
            "DATABASE_URL",
            &database,
            "down",
            "cannot work",
            name,
        ),
        (
            "flashsale-expirer",
            "DATABASE_URL",
            &database,
            "down",
            "cannot work",
            name,
        ),
        (
            "flashsale-expirer",
            "SSL_CERT_FILE",
            other,
            "down",
            "cannot listen to Redis",
            unknown,
        ),
        (
            "flashsale-expirer",
            "REDIS_URL",
            &redis,
            "up",
            "cannot listen to Redis",
            name,
        ),
        (
            "flashsale-relay",
            "SSL_CERT_FILE",
            other,
            "down",
            "RabbitMQ",
            unknown,
        ),
        ("flashsale-relay", "AMQP_URL", &amqp, "up", "RabbitMQ", name),
    ] {
        let settings = with(&settings, setting, value);
        let relay_only =
            |pair: &&(&str, &str)| program == "flashsale-relay" || pair.0 != "AMQP_URL";
        let settings: Vec<_> = settings.iter().filter(relay_only).copied().collect();
        let mut process = start(program, &settings);
        let (status, dependencies) = dependencies(&mut process).await;
        assert_eq!(dependencies["postgres"], postgres, "{program} {setting}");
        assert_eq!(status, if postgres == "up" { 200 } else { 503 });
        let entry = process.logs(told).await.to_string();
        assert!(entry.contains(why), "{program} {setting}: {entry}");
        process.terminate();
        assert!(process.ends().await.success());
        let said = process.all_it_said().await;
        assert!(
            !said.contains("flashsale:flashsale") && !said.contains("guest:guest"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_file_of_authorities_that_is_none_ends_the_start() {
    let folder = Folder::new();
    let empty = folder.path().join("empty");
    fs::write(&empty, "").unwrap();
    for (path, why) in [
        (folder.path().join("missing"), "No such file"),
        (empty, "no certificate"),
    ] {
        let settings = [
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("SSL_CERT_FILE", path.to_str().unwrap()),
        ];
        for program in ["flashsale-api", "flashsale-expirer", "flashsale-relay"] {
            let mut process = start(program, &settings);
            assert!(!process.ends().await.success());
            let said = process.all_it_said().await;
            assert!(
                said.contains("SSL_CERT_FILE") && said.contains(why),
                "{said}"
            );
        }
    }
}
