//! The numbered files: tables, indexes and constraints.

use sqlx::migrate::{Migration, Migrator};

/// The numbered files.
pub static NUMBERED: Migrator = sqlx::migrate!("../../migrations");

/// The migrations that go forward, oldest first.
pub(super) fn ups(migrator: &Migrator) -> impl Iterator<Item = &Migration> {
    migrator
        .iter()
        .filter(|migration| migration.migration_type.is_up_migration())
}
