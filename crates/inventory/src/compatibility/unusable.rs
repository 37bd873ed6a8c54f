//! Why a program cannot use the database.

use crate::{Error, database::READ_ONLY};

/// Why commits get no answer, and what to do.
pub(super) const COMMITS_WAIT: &str = "commits wait for a standby that does not confirm. If synchronous_standby_names names one that \
     does not exist, as after a restore, set it to ''";

/// Why this program cannot use the database. Schema versions are the numbers of the files in `migrations/`.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// No connection, or no answer in time. The text is the cause. It is only for the log: HTTP answers never repeat
    /// a message of the database.
    #[error("PostgreSQL does not answer")]
    NoAnswer(String),
    /// PostgreSQL refused the query. The text is the cause, only for the log.
    #[error("PostgreSQL refuses to say which schema it has")]
    Refused(String),
    /// The schema is older than this program needs. `there` is 0 when there is no schema.
    #[error("schema is at {there}, this program needs {needed}: run flashsale-api migrate")]
    Older {
        /// Version of the schema.
        there: i64,
        /// Version that this program needs.
        needed: i64,
    },
    /// The schema is newer, and not compatible with this program.
    #[error(
        "schema is at {there}, which works with programs that need {compatible_from} or later, and this one needs \
         {needed}: run a newer version of this program"
    )]
    Newer {
        /// Version of the schema.
        there: i64,
        /// Oldest version whose programs work with this schema.
        compatible_from: i64,
        /// Version that this program needs.
        needed: i64,
    },
    /// Functions that this program calls are not installed.
    #[error(
        "schema is at {there}, but the functions {missing} are missing: run flashsale-api migrate"
    )]
    HalfMigrated {
        /// Version of the schema.
        there: i64,
        /// Names of the missing functions, separated by commas.
        missing: String,
    },
    /// The schema dates from before the first release and cannot be migrated.
    #[error(
        "the schema is of a version from before the first release: make a new database, set DATABASE_URL to it, and \
         run flashsale-api migrate"
    )]
    Unreleased,
    /// Nothing can be written.
    #[error("{READ_ONLY}")]
    ReadOnly,
    /// Commits get no answer.
    #[error("{COMMITS_WAIT}")]
    CommitsWait,
    /// The database may have been restored, and the sequences of ids cannot be advanced. The text is the cause, only
    /// for the log.
    #[error("ids cannot be advanced, and some could be given out twice")]
    IdsNotAdvanced(String),
    /// The database cannot store all names.
    #[error(
        "the encoding of the database is {0}, and must be UTF8: create database … encoding 'UTF8' template template0"
    )]
    Encoding(String),
    /// The sessions have another isolation level than read committed.
    #[error(
        "the isolation level is '{0}', and must be 'read committed': alter role … set default_transaction_isolation \
         = 'read committed'"
    )]
    Isolation(String),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        match error.is_refusal() {
            true => Self::Refused(error.cause()),
            false => Self::NoAnswer(error.cause()),
        }
    }
}

impl Unusable {
    /// For the log only.
    pub(super) fn cause(&self) -> Option<&str> {
        match self {
            Self::NoAnswer(cause) | Self::Refused(cause) | Self::IdsNotAdvanced(cause) => {
                Some(cause)
            }
            _ => None,
        }
    }
}
