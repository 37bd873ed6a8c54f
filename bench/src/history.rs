//! Ten million ended reservations of earlier sales.

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::database::Database;

const ROWS: i64 = 10_000_000;
const PRODUCTS: i64 = 1_000;
const USERS: i64 = 1_000_000;

/// Fills a new database. The counters match the rows, so that an audit is clean.
pub(crate) async fn write(database: &Database) -> anyhow::Result<()> {
    let mut connection = database.pool.acquire().await?;
    sqlx::raw_sql(
        "set maintenance_work_mem = '512MB';
        set synchronous_commit = off;
        set max_parallel_maintenance_workers = 2",
    )
    .execute(&mut *connection)
    .await?;
    // Updating the indexes row by row would take most of the time.
    let restore = take_down(&mut connection).await?;
    sqlx::query(
        "-- bench: products of earlier sales
        insert into products (name, stock, total)
        select 'earlier sale ' || n, 0, 0 from generate_series(1, $1::bigint) n",
    )
    .bind(PRODUCTS)
    .execute(&mut *connection)
    .await?;
    println!("  history: writing {ROWS} reservations");
    // The sales of a product are spread over a year. Users return in no particular order.
    sqlx::query(
        "-- bench: their reservations
        insert into reservations
          (product_id, user_id, status, created_at, expires_at, confirmed_at, canceled_at, expired_at)
        select 1 + n * $2 / $1, 1 + (n * 7919) % $3, s.status, s.made, s.made + interval '5 minutes',
          case when s.status = 'CONFIRMED' then s.made + interval '1 minute' end,
          case when s.status = 'CANCELED' then s.made + interval '1 minute' end,
          case when s.status = 'EXPIRED' then s.made + interval '5 minutes' end
        from generate_series(0, $1::bigint - 1) n
        cross join lateral (
          select (array['CONFIRMED', 'EXPIRED', 'CONFIRMED', 'CANCELED'])[1 + n % 4] as status,
            now() - interval '1 year' + n * (interval '360 days' / $1::double precision) as made
        ) s",
    )
    .bind(ROWS)
    .bind(PRODUCTS)
    .bind(USERS)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "-- bench: their counters
        update products p set sold = r.sold, total = r.sold, initial = r.sold
        from (
          select product_id, count(*)::integer as sold from reservations
          where status = 'CONFIRMED' group by product_id
        ) r
        where p.id = r.product_id",
    )
    .execute(&mut *connection)
    .await?;
    println!("  history: building the indexes");
    for statement in restore {
        sqlx::query(AssertSqlSafe(statement.clone()))
            .execute(&mut *connection)
            .await
            .with_context(|| format!("cannot restore: {statement}"))?;
    }
    // The settings of the connection end with it.
    connection.close().await?;
    println!("  history: vacuum and analyze");
    database.tidy().await
}

/// Drops the secondary indexes of `reservations` and its partitions. Returns the statements that recreate them.
async fn take_down(connection: &mut PgConnection) -> anyhow::Result<Vec<String>> {
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "select format('drop index %I', c.relname), pg_get_indexdef(c.oid)
        from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid in (select relid from pg_partition_tree('reservations')) and not i.indisprimary",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut restore = Vec::new();
    for (drop, create) in indexes {
        sqlx::query(AssertSqlSafe(drop))
            .execute(&mut *connection)
            .await?;
        restore.push(create);
    }
    Ok(restore)
}
