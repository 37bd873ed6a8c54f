//! The settings of each session, and what a session says about itself and its server.

use sqlx::{FromRow, PgConnection};

use crate::id_epoch;

/// What a session says about itself and its server.
macro_rules! session {
    () => {
        concat!(
            "select not current_setting('transaction_read_only')::boolean as writable, ",
            id_epoch::timeline!()
        )
    };
}

/// Reads a [`Session`] that was set up before.
pub(crate) const SESSION: &str = session!();

/// Settings of each session, as statements because PgBouncer refuses them as startup parameters.
/// - The database or role may have another default isolation level, under which a statement after a lock wait does
///   not see the changes of the previous lock holder.
/// - Without a flush to disk at commit, an acknowledged answer could be lost in a crash. A value that was set is not
///   changed by a later reload of the configuration.
/// - PostgreSQL notices after a minute that the host of a session has vanished, whether the session is idle or has an
///   answer on the way. Its defaults are two hours and a quarter of an hour.
///
/// The last statement reads a [`Session`].
pub(crate) const SET_UP: &str = concat!(
    "set default_transaction_isolation = 'read committed';
    set tcp_keepalives_idle = 30;
    set tcp_keepalives_interval = 10;
    set tcp_keepalives_count = 3;
    set tcp_user_timeout = '60s';
    select set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false);",
    session!(),
    ", ",
    id_epoch::advances_ids!()
);

/// What a session says about itself and its server.
#[derive(FromRow)]
pub(crate) struct Session {
    /// False on a standby, and with `default_transaction_read_only`.
    pub(crate) writable: bool,
    /// Of the server; 0 on a standby.
    pub(crate) timeline: i32,
    /// Whether the schema has the function that advances ids. Only a new session reads it.
    #[sqlx(default)]
    pub(crate) advances_ids: bool,
}

/// Runs `statements`, the last of which reads the session.
pub(crate) async fn session(
    connection: &mut PgConnection,
    statements: &'static str,
) -> Result<Session, sqlx::Error> {
    let rows = sqlx::raw_sql(statements).fetch_all(connection).await?;
    Session::from_row(rows.last().ok_or(sqlx::Error::RowNotFound)?)
}

/// What a new session rehearses: PostgreSQL compiles and plans most of what the calls of a verb need, by a call for a
/// product that does not exist. On an idle machine, a session's first batch of 100 reserves took 9 to 17 ms without it,
/// and 3 to 5 ms with it. The first transaction that expires 500 holds took 10 to 14 ms, and 5 to 7 ms with it.
#[derive(Clone, Copy)]
pub enum Rehearsal {
    /// Nothing. The first call of each kind takes longer.
    None,
    /// A batch of reserves.
    Reserve,
    /// A transaction that expires holds.
    Expire,
}

impl Rehearsal {
    /// Does nothing as long as the schema is not there. Errors are ignored: then the first calls take longer.
    pub(crate) async fn hold(self, connection: &mut PgConnection) {
        let call = match self {
            Self::None => return,
            Self::Reserve => {
                "-- reserve: rehearsal
                do $$ begin
                    if to_regproc('reserve_v3') is not null then
                        perform reserve_v3('{0,0}', '{1,2}', '{1,1}', '{}', 1, '{}', wait => false);
                    end if;
                end $$"
            }
            Self::Expire => {
                "-- expire: rehearsal
                do $$ begin
                    if to_regproc('expire_v6') is not null then
                        perform expire_v6(0, 0, '{}', durable => true, wait => true);
                    end if;
                end $$"
            }
        };
        let _ = sqlx::raw_sql(call).execute(connection).await;
    }
}
