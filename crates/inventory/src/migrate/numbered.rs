//! The numbered files: tables, indexes and constraints.

use sqlx::migrate::{Migration, Migrator};

/// The numbered files.
pub static NUMBERED: Migrator = sqlx::migrate!("../../migrations");

/// The statements of a file for a transaction of the caller.
pub(super) fn for_transaction(migration: &Migration) -> String {
    let sql = migration.sql.as_str();
    match migration.no_tx {
        // It creates the same index, but cannot run in a transaction.
        true => sql.replace(" concurrently", ""),
        false => sql.to_owned(),
    }
}

/// The migrations that go forward, oldest first.
pub(super) fn ups(migrator: &Migrator) -> impl Iterator<Item = &Migration> {
    migrator
        .iter()
        .filter(|migration| migration.migration_type.is_up_migration())
}
