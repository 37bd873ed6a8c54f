//! Cells: databases that share one space of ids. Each has a range of its own: see `sql/assign_cell.sql`.

use anyhow::bail;
use sqlx::{PgConnection, PgPool};

use crate::{Error, database::fetch};

/// The largest number of a cell. The ids of all cells are exact as JSON numbers.
pub const MAX: i32 = 899;

/// Number of ids of a cell, as in `sql/assign_cell.sql`.
const IDS: i64 = 10_000_000_000_000;

/// Gives the ids of this database the range of a cell.
///
/// # Errors
///
/// Ids of another cell were given out, or the role does not own the sequences.
pub async fn assign(connection: &mut PgConnection, cell: i32) -> Result<(), sqlx::Error> {
    sqlx::query("-- cell: assign\nselect assign_cell_v1($1)")
        .bind(cell)
        .execute(connection)
        .await?;
    Ok(())
}

/// The cell whose ids this database gives out.
///
/// # Errors
///
/// No cell was assigned, or PostgreSQL does not answer.
pub async fn of(pool: &PgPool) -> anyhow::Result<i32> {
    let query = sqlx::query(
        "-- cell: which one
        select s.seqmax
        from pg_sequence s
        join pg_class c on c.oid = s.seqrelid
        where c.relnamespace = current_schema()::regnamespace and pg_has_role(c.relowner, 'usage')",
    );
    let ends: Result<Vec<(i64,)>, Error> = fetch(pool, query).await;
    let mut cells = ends?.into_iter().map(|(end,)| cell_that_ends_at(end));
    match cells.next().flatten() {
        Some(first) if cells.all(|cell| cell == Some(first)) => Ok(first),
        _ => bail!(
            "this database has no range of ids of its own, so another cell could give out the same ids: run \
             flashsale-api migrate --cell NUMBER. The first database of an installation is cell 0. Or the role of the \
             URL does not own the tables: only their owner may move products"
        ),
    }
}

/// The cell whose last id this is.
fn cell_that_ends_at(last_id: i64) -> Option<i32> {
    let cell = i32::try_from(last_id / IDS).ok()?;
    (last_id % IDS == IDS - 1 && cell <= MAX).then_some(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_that_is_not_limited_has_no_cell() {
        assert_eq!(cell_that_ends_at(IDS - 1), Some(0));
        assert_eq!(cell_that_ends_at(8 * IDS - 1), Some(7));
        assert_eq!(cell_that_ends_at(900 * IDS - 1), Some(MAX));
        for last_id in [i64::MAX, i64::from(i32::MAX), IDS, 901 * IDS - 1] {
            assert_eq!(cell_that_ends_at(last_id), None, "{last_id}");
        }
    }
}
