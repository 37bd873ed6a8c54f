//! One connection to Redis, and the detection of its loss.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, PushInfo, PushKind, RedisError, RedisResult,
    ServerErrorKind,
    aio::{MultiplexedConnection, SendError},
};
use tokio_util::sync::CancellationToken;

use crate::servers::Servers;

/// Time limit for one server. Includes the DNS lookup, TLS and log-in.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Redis forks, saves and fails over within this time. The crate's default of 500 ms would drop timers meanwhile.
const RESPONSE_LIMIT: Duration = Duration::from_secs(2);

/// A peer that vanishes is detected after this time plus `RESPONSE_LIMIT`.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Maximum delay between attempts to reach Redis.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(2);

type OnMessage = Arc<dyn Fn(&[u8]) + Send + Sync>;

pub(crate) struct Link {
    pub(crate) connection: MultiplexedConnection,
    closed: CancellationToken,
}

impl Link {
    /// Connects to the primary. `on_message` gets the payload of each published message. It is called by the task that
    /// reads the socket, so it must return at once: Redis disconnects readers that fall behind.
    pub(crate) async fn open(
        servers: &Servers,
        on_message: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> RedisResult<Self> {
        let on_message: OnMessage = Arc::new(on_message);
        let mut last = RedisError::from((ErrorKind::Io, "there is no server"));
        for (number, client) in servers.candidates().await? {
            match Self::open_to(&client, Arc::clone(&on_message)).await {
                Ok(link) => {
                    servers.prefer(number);
                    return Ok(link);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn open_to(client: &Client, on_message: OnMessage) -> RedisResult<Self> {
        let closed = CancellationToken::new();
        let on_close = closed.clone();
        let on_push = move |push: PushInfo| {
            match (&push.kind, push.data.last()) {
                (PushKind::Disconnection, _) => on_close.cancel(),
                (PushKind::Message, Some(redis::Value::BulkString(payload))) => on_message(payload),
                _ => {}
            }
            Ok::<(), SendError>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_LIMIT))
            .set_response_timeout(Some(RESPONSE_LIMIT))
            .set_push_sender(on_push);
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        check(&mut connection).await?;
        Ok(Self { connection, closed })
    }

    /// Returns once the connection is lost or useless: at once if it was closed, after a failed check if the peer is
    /// frozen, has become a replica, or the network drops packets. Cancel safe.
    pub(crate) async fn lost(&mut self) {
        loop {
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = tokio::time::sleep(CHECK_EVERY) => {}
            }
            if check(&mut self.connection).await.is_err() {
                return;
            }
        }
    }
}

/// Fails unless the server answers and is a primary. A replica refuses writes, and announces no expiries.
pub(crate) async fn check(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let role: RedisResult<Vec<redis::Value>> = redis::cmd("ROLE").query_async(connection).await;
    let role = match role {
        Ok(role) => role,
        // The user may not ask, or a proxy does not know the command. The server answers all the same.
        Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    match role.first() {
        Some(redis::Value::BulkString(role)) if role == b"slave" => Err(RedisError::from((
            ErrorKind::Server(ServerErrorKind::ReadOnly),
            "this server is a replica",
        ))),
        _ => Ok(()),
    }
}
