//! `REDIS_URL`: one server, several of which one is the primary, or sentinels that know the primary.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use redis::{
    Client, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, ProtocolVersion, RedisError,
    RedisResult,
    io::tcp::TcpSettings,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::{sync::Mutex, time::timeout};

/// Time limit of the sentinels to name a primary. All are asked at once.
const SENTINEL_LIMIT: Duration = Duration::from_secs(2);

const SENTINEL: &str = "redis+sentinel://";
const SENTINEL_FORM: &str =
    "redis+sentinel://[user:password@]host:port,host:port/name-of-the-primary[/database]";

/// Parameters of a URL. The redis crate ignores all others.
const PARAMETERS: [&str; 4] = ["db", "pass", "protocol", "user"];

/// Where Redis is.
pub(crate) struct Servers {
    source: Source,
    database: i64,
    /// For the log.
    addresses: String,
}

enum Source {
    Listed {
        clients: Vec<Client>,
        /// The one that worked last.
        preferred: AtomicUsize,
    },
    Sentinels(Box<Mutex<SentinelClient>>),
}

impl Servers {
    /// Parses the URL, or several URLs that are separated by commas. An error never contains a password.
    pub(crate) fn parse(urls: &str) -> anyhow::Result<Self> {
        if urls.starts_with(SENTINEL) {
            return of_sentinels(urls);
        }
        ensure!(
            !urls.starts_with("rediss+sentinel"),
            "TLS to sentinels is not supported"
        );
        let (mut clients, mut databases, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for url in urls.split(',') {
            check(url)?;
            let info = settings(url.into_connection_info().context(
                "several URLs are separated by commas, and a comma in a password is written as %2C",
            )?);
            databases.push(info.redis_settings().db());
            addresses.push(info.addr().to_string());
            clients.push(Client::open(info)?);
        }
        ensure!(
            databases.iter().all(|database| *database == databases[0]),
            "all URLs must have the same database number"
        );
        Ok(Self {
            source: Source::Listed {
                clients,
                preferred: AtomicUsize::new(0),
            },
            database: databases[0],
            addresses: addresses.join(", "),
        })
    }

    /// The database number.
    pub(crate) fn database(&self) -> i64 {
        self.database
    }

    /// The addresses of all servers, or of all sentinels.
    pub(crate) fn addresses(&self) -> &str {
        &self.addresses
    }

    /// The servers to try, in this order, each with its number for [`Self::prefer`].
    pub(crate) async fn candidates(&self) -> RedisResult<Vec<(usize, Client)>> {
        match &self.source {
            Source::Listed { clients, preferred } => {
                let preferred = preferred.load(Relaxed);
                let all = clients.iter().cloned().enumerate();
                let mut all: Vec<_> = all.collect();
                all.rotate_left(preferred);
                Ok(all)
            }
            Source::Sentinels(sentinels) => {
                let asking = async { sentinels.lock().await.async_get_client().await };
                let primary = timeout(SENTINEL_LIMIT, asking).await;
                let primary = primary.map_err(|_| {
                    RedisError::from((ErrorKind::Io, "no sentinel names a primary in time"))
                })?;
                Ok(vec![(0, primary?)])
            }
        }
    }

    /// The server in use refuses writes, although it may not have said that it is a replica: the next connection begins
    /// with another one.
    pub(crate) fn leave(&self) {
        if let Source::Listed { clients, preferred } = &self.source {
            let next = (preferred.load(Relaxed) + 1) % clients.len();
            preferred.store(next, Relaxed);
        }
    }

    /// The next connection begins with this server.
    pub(crate) fn prefer(&self, number: usize) {
        if let Source::Listed { preferred, .. } = &self.source {
            preferred.store(number, Relaxed);
        }
    }
}

fn settings(info: ConnectionInfo) -> ConnectionInfo {
    // With RESP3, the loss of a connection and published messages arrive as pushes on any connection.
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    info.set_redis_settings(settings)
        .set_tcp_settings(TcpSettings::default().set_nodelay(true))
}

/// Refuses what the redis crate would ignore.
fn check(url: &str) -> anyhow::Result<()> {
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    ensure!(
        fragment.is_empty() || url.starts_with("rediss") || url.starts_with("valkeys"),
        "a # in a password is written as %23"
    );
    let (_, query) = url.split_once('?').unwrap_or((url, ""));
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "protocol" => ensure!(
                ["3", "resp3"].contains(&value),
                "the parameter protocol must be resp3"
            ),
            "db" | "pass" | "user" if url.contains("unix:") => {}
            _ => bail!(
                "a parameter is not known. These are: {}, and all but protocol belong to unix://",
                PARAMETERS.join(", ")
            ),
        }
    }
    Ok(())
}

fn of_sentinels(url: &str) -> anyhow::Result<Servers> {
    let rest = &url[SENTINEL.len()..];
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').context(SENTINEL_FORM)?;
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (name, database) = path.split_once('/').unwrap_or((path, ""));
    ensure!(!name.is_empty() && !hosts.is_empty(), SENTINEL_FORM);
    let of_primary = format!("redis://{user}@primary/{database}");
    let of_primary = settings(of_primary.into_connection_info().context(SENTINEL_FORM)?);
    let of_primary = of_primary.redis_settings();

    let (mut sentinel_user, mut sentinel_password) = ("", "");
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("sentinel_username", value)) => sentinel_user = value,
            Some(("sentinel_password", value)) => sentinel_password = value,
            _ => bail!("a parameter is not known. These are: sentinel_username, sentinel_password"),
        }
    }
    let sentinels = hosts.split(',').map(|host| {
        let url = format!("redis://{sentinel_user}:{sentinel_password}@{host}/");
        let info = url.into_connection_info().context(SENTINEL_FORM)?;
        anyhow::Ok(info)
    });
    let sentinels: Vec<ConnectionInfo> = sentinels.collect::<anyhow::Result<_>>()?;
    let of_sentinel = sentinels[0].redis_settings().clone();

    let addresses: Vec<_> = sentinels.iter().map(|info| info.addr().clone()).collect();
    let named: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?
        .set_client_to_redis_db(of_primary.db())
        .set_client_to_redis_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_tcp_settings(TcpSettings::default().set_nodelay(true));
    if let Some(user) = of_primary.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = of_primary.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = of_sentinel.username() {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = of_sentinel
        .password()
        .filter(|password| !password.is_empty())
    {
        builder = builder.set_client_to_sentinel_password(password);
    }
    Ok(Servers {
        source: Source::Sentinels(Box::new(Mutex::new(builder.build()?))),
        database: of_primary.db(),
        addresses: format!("sentinels {}", named.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(urls: &str, words: &str) {
        let error = Servers::parse(urls).map(|_| ()).expect_err(urls);
        let error = format!("{error:#}");
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn the_next_connection_begins_with_the_server_that_worked_last() {
        let servers = Servers::parse("redis://a/3,redis://u:p@b:7/3,rediss://c/3").expect("a list");
        assert_eq!(servers.database(), 3);
        let order = async || -> Vec<usize> {
            let candidates = servers.candidates().await.expect("a list");
            candidates.into_iter().map(|(number, _)| number).collect()
        };
        assert_eq!(order().await, [0, 1, 2]);
        servers.prefer(1);
        assert_eq!(order().await, [1, 2, 0]);
        servers.leave();
        servers.leave();
        assert_eq!(order().await, [0, 1, 2]);
    }

    #[test]
    fn sentinels_have_a_primary_with_a_name_and_a_database() {
        for (url, database) in [
            ("redis+sentinel://s1:26379,s2:26379/mymaster/2", 2),
            ("redis+sentinel://u:secret@s1/mymaster", 0),
            (
                "redis+sentinel://s1,s2/m/1?sentinel_username=u&sentinel_password=p",
                1,
            ),
        ] {
            let servers = Servers::parse(url).expect(url);
            assert_eq!(servers.database(), database);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        refused("http://u:secret@a", "separated by commas");
        refused("redis://u:secret@a,b", "separated by commas");
        refused("redis://u:secret@a/0,redis://b/1", "the same database");
        refused("redis://u:secret@a/0?db=secret", "not known");
        refused("redis://u:secret@a/0?protocol=resp2", "must be resp3");
        refused("redis://u:se#cret@a/0", "%23");
        refused("redis+sentinel://u:secret@a", "name-of-the-primary");
        refused("redis+sentinel://u:secret@a/m/x", "name-of-the-primary");
        refused("redis+sentinel://u:secret@a/m?quorum=secret", "not known");
        refused("rediss+sentinel://u:secret@a/m", "not supported");
    }
}
