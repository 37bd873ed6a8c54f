//! Errors that say whether a failed call was done.

use std::io;

use sqlx::{
    error::DatabaseError,
    postgres::{PgDatabaseError, PgSeverity},
};

/// A failed call. The two variants differ in what a client may conclude.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There was no connection, or PostgreSQL refused and rolled back: nothing was done.
    #[error("PostgreSQL did not execute the call")]
    NotDone(#[source] sqlx::Error),
    /// The connection was lost after the call was sent, so the call may have been committed. Or only a part of the
    /// work was committed.
    #[error("the answer of PostgreSQL was lost")]
    OutcomeUnknown(#[source] sqlx::Error),
}

impl Error {
    /// The cause as text for the log. (As a log field, an error shows its source only in the text format.)
    pub fn cause(&self) -> String {
        let (Self::NotDone(cause) | Self::OutcomeUnknown(cause)) = self;
        cause.to_string()
    }

    /// The variant as a word, for traces.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotDone(_) => "not_done",
            Self::OutcomeUnknown(_) => "outcome_unknown",
        }
    }

    /// Whether PostgreSQL answered with an error, and is therefore up.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::NotDone(sqlx::Error::Database(refusal)) if !is_of_pooler(refusal.as_ref()))
    }

    /// Whether PostgreSQL refused a write because the server or the session is read-only. The connection is closed
    /// then.
    pub fn is_read_only(&self) -> bool {
        self.is_code("25006")
    }

    /// Whether there was no connection, or none that can write.
    pub fn is_outage(&self) -> bool {
        self.is_read_only() || self.is_no_connection()
    }

    /// Whether nothing was sent because there was no connection.
    pub(crate) fn is_no_connection(&self) -> bool {
        matches!(self, Self::NotDone(_)) && !self.is_refusal()
    }

    /// Whether another transaction kept a lock for longer than the call's lock timeout.
    pub fn is_lock_timeout(&self) -> bool {
        self.is_code("55P03")
    }

    /// Whether a table does not exist.
    pub(crate) fn is_undefined_table(&self) -> bool {
        self.is_code("42P01")
    }

    fn is_code(&self, sqlstate: &str) -> bool {
        let Self::NotDone(sqlx::Error::Database(refusal)) = self else {
            return false;
        };
        refusal.code().as_deref() == Some(sqlstate)
    }

    /// Converts the error of one of several calls, each a transaction of its own. If `others` were committed, the
    /// outcome of the whole is unknown.
    pub fn after(self, others: bool) -> Self {
        match self {
            Self::NotDone(cause) if others => Self::OutcomeUnknown(cause),
            error => error,
        }
    }

    /// Converts the error of a call in a transaction that was not committed: nothing was done.
    pub(crate) fn before_commit(self) -> Self {
        match self {
            Self::NotDone(cause) | Self::OutcomeUnknown(cause) => Self::NotDone(cause),
        }
    }
}

/// The error of an attempt to connect. Sqlx takes the end of a new connection for an answer to its first message.
pub(crate) fn clearer(error: sqlx::Error) -> sqlx::Error {
    const CLOSED: &str = "unexpected response from SSLRequest: 0x00";
    match error {
        sqlx::Error::Protocol(text) if text.starts_with(CLOSED) => {
            let what =
                "the new connection was closed at once; a proxy does this that has no server";
            sqlx::Error::Io(io::Error::new(io::ErrorKind::UnexpectedEof, what))
        }
        other => other,
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refusal)
                if rolled_back(refusal.as_ref()) || was_not_sent(refusal.as_ref()) =>
            {
                Self::NotDone(error)
            }
            _ => Self::OutcomeUnknown(error),
        }
    }
}

/// Errors of a login. PgBouncer passes them on to clients whose statement waits for a server: the statement was not
/// sent. PostgreSQL itself sends them only before the first statement of a session.
const OF_LOGIN: [&str; 5] = [
    "28000", // no entry in pg_hba.conf
    "28P01", // wrong password
    "3D000", // no such database
    "53300", // too many connections
    "57P03", // starting up, or shutting down
];

/// How PgBouncer's own errors begin that it sends instead of looking for a server, or while a statement waits for one
/// (PgBouncer 1.18 to 1.25). Its other errors, such as `server conn crashed?`, can come after a commit.
const OF_POOLER: [&str; 5] = [
    "server login has been failing",
    "server login failed",
    "query_wait_timeout",
    "client_login_timeout",
    "client_idle_timeout",
];

/// Whether PgBouncer ended the session before it sent the statement to a server.
fn was_not_sent(refusal: &dyn DatabaseError) -> bool {
    let code = refusal.code();
    let code = code.as_deref().unwrap_or_default();
    is_fatal(refusal) && (OF_LOGIN.contains(&code) || is_of_pooler(refusal))
}

/// Whether PgBouncer says by an error of its own that it has no server for the session.
fn is_of_pooler(refusal: &dyn DatabaseError) -> bool {
    let message = refusal.message();
    let begins = OF_POOLER.iter().any(|begin| message.starts_with(begin));
    begins && refusal.code().as_deref() == Some("08P01") && is_fatal(refusal)
}

fn is_fatal(refusal: &dyn DatabaseError) -> bool {
    severity(refusal) == Some(PgSeverity::Fatal)
}

/// Whether the transaction was rolled back. An ERROR rolls back and keeps the connection. A FATAL or PANIC ends the
/// connection, possibly between a commit and its answer.
fn rolled_back(refusal: &dyn DatabaseError) -> bool {
    severity(refusal) == Some(PgSeverity::Error)
}

fn severity(refusal: &dyn DatabaseError) -> Option<PgSeverity> {
    let error = refusal.try_downcast_ref::<PgDatabaseError>()?;
    Some(error.severity())
}
