//! A primary with one synchronous standby, created by `deploy/local/bench.sh`.
//!
//! The standby tries two addresses for its primary. While a proxy listens at the first one, the connection is
//! delayed. Otherwise the standby connects directly. So one pair serves both distances.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use sqlx::PgPool;
use tokio::{net::TcpListener, time::sleep};

use crate::{case::Standby, database::Cluster, delay::DelayProxy};

/// Delay in each direction.
const DELAY: Duration = Duration::from_millis(1);

/// Interval and time limit of checks for the standby.
const POLL: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(60);

/// A primary, and the distance of its standby.
pub(crate) struct Replicated {
    pub(crate) cluster: Cluster,
    pool: PgPool,
    /// Address of the primary.
    primary: SocketAddr,
    /// The first address that the standby tries.
    proxy_address: SocketAddr,
    /// The proxy, while the standby is at a distance.
    proxy: Option<DelayProxy>,
}

impl Replicated {
    pub(crate) async fn connect(url: &str, proxy_port: u16) -> anyhow::Result<Self> {
        let cluster = Cluster::connect(url).await?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self {
            pool: cluster.sessions(1).await?,
            primary: local(cluster.port()),
            cluster,
            proxy_address: local(proxy_port),
            proxy: None,
        })
    }

    /// Sets the distance of the standby. Waits until commits wait for it, and until it has replayed everything of the
    /// previous round.
    pub(crate) async fn place(&mut self, standby: Standby) -> anyhow::Result<()> {
        let away = standby == Standby::TwoMillisecondsAway;
        let mut old = Vec::new();
        if away != self.proxy.is_some() {
            self.proxy = if away {
                let listener = TcpListener::bind(self.proxy_address).await;
                let listener = listener.with_context(|| {
                    format!("cannot listen on {} (SYNC_PROXY_PORT)", self.proxy_address)
                })?;
                Some(DelayProxy::start(listener, self.primary, DELAY))
            } else {
                None
            };
            old = self.disconnect().await?;
        }
        self.wait_until_connected(&old).await?;
        self.wait_until_replayed().await
    }

    /// Ends the standby's connection. Returns its process ids. The standby reconnects by the first address that is
    /// open now.
    async fn disconnect(&self) -> anyhow::Result<Vec<i32>> {
        let ended = sqlx::query_as(
            "-- bench: disconnect the standby
            select pid, pg_terminate_backend(pid) from pg_stat_replication",
        );
        let ended: Vec<(i32, bool)> = ended.fetch_all(&self.pool).await?;
        Ok(ended.into_iter().map(|(pid, _)| pid).collect())
    }

    /// Waits for a synchronous standby with a new connection by the right address.
    async fn wait_until_connected(&self, old: &[i32]) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let port: Option<(i32,)> = sqlx::query_as(
                "-- bench: look for the standby
                select client_port from pg_stat_replication
                where state = 'streaming' and sync_state = 'sync' and pid <> all ($1)",
            )
            .bind(old)
            .fetch_optional(&self.pool)
            .await?;
            let is_right = |port: u16| {
                let proxy = self.proxy.as_ref();
                proxy.is_none_or(|proxy| proxy.has_port(port))
            };
            let port = port.and_then(|(port,)| u16::try_from(port).ok());
            if port.is_some_and(is_right) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < LIMIT,
                "the standby is not synchronous, or not connected by the right address"
            );
            sleep(POLL).await;
        }
    }

    /// Replay of old changes would cost the next round CPU time.
    async fn wait_until_replayed(&self) -> anyhow::Result<()> {
        let target: (String,) =
            sqlx::query_as("-- bench: how far the primary is\nselect pg_current_wal_lsn()::text")
                .fetch_one(&self.pool)
                .await?;
        let began = Instant::now();
        loop {
            let (replayed,): (bool,) = sqlx::query_as(
                "-- bench: has the standby replayed that
                select coalesce(bool_or(replay_lsn >= $1::pg_lsn), false) from pg_stat_replication",
            )
            .bind(&target.0)
            .fetch_one(&self.pool)
            .await?;
            if replayed {
                return Ok(());
            }
            ensure!(
                began.elapsed() < LIMIT,
                "the standby did not replay all changes in time"
            );
            sleep(POLL).await;
        }
    }
}
