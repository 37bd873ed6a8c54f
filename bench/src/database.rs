//! Databases of the rounds, and their products.

use std::{
    str::FromStr as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::sleep;

use crate::{case::Sale, machine, server::Programs};

/// A vacuum of a round's largest table takes seconds.
const DROP_LIMIT: Duration = Duration::from_secs(60);

/// More than a load can take.
pub(crate) const PLENTY: i32 = 1_000_000_000;
/// Units of a product for sold-out cases. The warm-up takes them.
const FEW: i32 = 100;

/// A PostgreSQL server. Clones share its connection.
#[derive(Clone)]
pub(crate) struct Cluster {
    options: PgConnectOptions,
    admin: PgPool,
}

/// A database with the product's schema.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    /// The server's main process, if it runs on this machine.
    pub(crate) server_pid: Option<u32>,
}

/// The products under load: consecutive ids from the first.
#[derive(Clone, Copy)]
pub(crate) struct Products {
    pub(crate) first: i64,
    pub(crate) count: u32,
    pub(crate) stock_each: i32,
}

impl Cluster {
    /// Refuses a server that does not wait for its disk. There, one transaction per request would look cheap.
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(url).context("DATABASE_URL is not valid")?;
        let admin = connect(&options, 1).await?;
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let (value,): (String,) = sqlx::query_as("select current_setting($1)")
                .bind(setting)
                .fetch_one(&admin)
                .await?;
            if value != "on" {
                bail!(
                    "PostgreSQL has {setting} = {value}, but the benchmark requires {setting} = on"
                );
            }
        }
        Ok(Self { options, admin })
    }

    pub(crate) async fn version(&self) -> anyhow::Result<String> {
        let (version,): (String,) =
            sqlx::query_as("select split_part(current_setting('server_version'), ' ', 1)")
                .fetch_one(&self.admin)
                .await?;
        Ok(version)
    }

    pub(crate) fn port(&self) -> u16 {
        self.options.get_port()
    }

    /// Additional connections to the database in the server's URL.
    pub(crate) async fn sessions(&self, connections: u32) -> anyhow::Result<PgPool> {
        connect(&self.options, connections).await
    }

    /// The server's main process, if it runs on this machine.
    async fn pid(&self) -> anyhow::Result<Option<u32>> {
        let (session,): (i32,) = sqlx::query_as("select pg_backend_pid()")
            .fetch_one(&self.admin)
            .await?;
        Ok(machine::parent_named(session.unsigned_abs(), "postgres"))
    }

    /// A new database with the schema of these programs. Replaces an older one of that name.
    pub(crate) async fn create(&self, name: &str, programs: &Programs) -> anyhow::Result<Database> {
        self.drop(name).await?;
        self.run(&format!("create database {name}")).await?;
        let options = self.options.clone().database(name);
        let url = String::from(options.to_url_lossy());
        programs.migrate(&url).await?;
        Ok(Database {
            name: name.to_owned(),
            url,
            pool: connect(&options, 2).await?,
            server_pid: self.pid().await?,
        })
    }

    /// A running autovacuum belongs to the superuser, and blocks the drop until it ends.
    pub(crate) async fn drop(&self, name: &str) -> anyhow::Result<()> {
        let statement = format!("drop database if exists {name} with (force)");
        let began = Instant::now();
        loop {
            match self.run(&statement).await {
                Err(_) if began.elapsed() < DROP_LIMIT => sleep(Duration::from_millis(200)).await,
                result => return result,
            }
        }
    }

    /// Writes all changes to disk, so that no round pays for the previous one.
    ///
    /// The command CHECKPOINT needs rights that our role lacks. Dropping a database also makes a checkpoint.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        self.run("create database bench_checkpoint").await?;
        self.drop("bench_checkpoint").await
    }

    async fn run(&self, statement: &str) -> anyhow::Result<()> {
        // The names in it are constants of this program.
        sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(&self.admin)
            .await
            .with_context(|| format!("PostgreSQL refuses: {statement}"))?;
        Ok(())
    }
}

async fn connect(options: &PgConnectOptions, connections: u32) -> anyhow::Result<PgPool> {
    PgPoolOptions::new()
        .max_connections(connections)
        .connect_with(options.clone())
        .await
        .context("cannot connect to PostgreSQL (DATABASE_URL)")
}

impl Database {
    /// Creates new products.
    pub(crate) async fn open_sale(&self, sale: Sale) -> anyhow::Result<Products> {
        let (count, stock_each) = match sale {
            Sale::Open(products) => (products, PLENTY),
            Sale::SoldOut => (1, FEW),
        };
        let ids: Vec<(i64,)> = sqlx::query_as(
            "-- bench: open a sale
            insert into products (name, stock, total)
            select 'on sale', $1, $1 from generate_series(1, $2::integer)
            returning id",
        )
        .bind(stock_each)
        .bind(i64::from(count))
        .fetch_all(&self.pool)
        .await?;
        let first = ids.iter().map(|(id,)| *id).min().context("no products")?;
        Ok(Products {
            first,
            count,
            stock_each,
        })
    }

    /// Leaves no work for autovacuum during a round.
    pub(crate) async fn tidy(&self) -> anyhow::Result<()> {
        self.maintain("vacuum (analyze)").await
    }

    /// The same without updating the planner's statistics.
    pub(crate) async fn vacuum(&self) -> anyhow::Result<()> {
        self.maintain("vacuum").await
    }

    async fn maintain(&self, command: &str) -> anyhow::Result<()> {
        for table in ["products", "reservations", "outbox_events"] {
            sqlx::query(AssertSqlSafe(format!("{command} {table}")))
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }
}
