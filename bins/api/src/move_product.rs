//! The command `move-product`. [`inventory::move_product`] has its steps, and what happens after a crash in each of them.
//! [The runbook](../../../RUNBOOK.md) says what to do then.

use inventory::{
    ProductId, database,
    move_product::{self, Cells},
};
use runtime::Process;

use crate::counters;

/// How long the command waits for a connection, in milliseconds.
const ACQUIRE_MILLISECONDS: u64 = 10_000;

/// Options of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Id of the product.
    #[arg(value_parser = product_id)]
    product: ProductId,
    /// PostgreSQL of the new cell, as DATABASE_URL. The role must own its tables.
    #[arg(long, env = "TARGET_DATABASE_URL", hide_env_values = true)]
    target_database_url: String,
    /// Redis of the new cell, as REDIS_URL. Without it, its counters are not rebuilt.
    #[arg(long, env = "TARGET_REDIS_URL", hide_env_values = true)]
    target_redis_url: Option<String>,
    /// REDIS_KEY_PREFIX of the new cell.
    #[arg(long, env = "TARGET_REDIS_KEY_PREFIX", default_value = "")]
    target_redis_key_prefix: String,
    /// Put a product back on sale in the old cell whose move was interrupted.
    #[arg(long)]
    undo: bool,
}

fn product_id(text: &str) -> Result<ProductId, String> {
    let number: i64 = text.parse().map_err(|_| "not a number".to_owned())?;
    ProductId::try_from(number).map_err(|error| error.to_string())
}

/// Moves a product, or undoes that. What was done goes to stdout, what is left to stderr.
///
/// # Errors
///
/// The error says whether nothing was done, or whether the command must be repeated.
pub(crate) async fn run(
    args: Args,
    database: &database::Args,
    timer: &timer::Args,
    process: &Process,
) -> anyhow::Result<()> {
    let connect = |url: &str| {
        let args = database::Args {
            database_url: url.to_owned(),
            database_acquire_milliseconds: ACQUIRE_MILLISECONDS,
            ..database.clone()
        };
        database::connect(&args, "flashsale-api move-product")
    };
    let (source, target) = (
        connect(&database.database_url)?,
        connect(&args.target_database_url)?,
    );
    let (product, cells) = (
        args.product,
        Cells::check(source.clone(), target.clone()).await?,
    );
    if args.undo {
        move_product::undo(&cells, product).await?;
        println!("product {product} is on sale in the old cell again");
        return Ok(());
    }
    let moved = move_product::move_product(&cells, product).await?;
    let pause = moved.pause.map_or_else(
        || "it had arrived before".to_owned(),
        |pause| format!("requests waited for {} ms", pause.as_millis()),
    );
    println!(
        "product {product} is on sale in cell {}: {pause}; {} ended reservations were deleted in the old cell",
        moved.to_cell, moved.forgotten
    );
    let new = args.target_redis_url.map(|redis_url| timer::Args {
        redis_url,
        redis_key_prefix: args.target_redis_key_prefix,
    });
    for (name, pool, redis) in [
        ("the old cell", source, Some(timer.clone())),
        ("the new cell", target, new),
    ] {
        let rebuilt = match redis {
            // Each has a registry of its own: two timers would have the same metrics.
            Some(redis) => counters::rebuild(&pool, &redis, &of_its_own(process)).await,
            None => Err(anyhow::anyhow!("no --target-redis-url")),
        };
        if let Err(error) = rebuilt {
            eprintln!(
                "the counters of {name} are not rebuilt ({error:#}): call its POST /admin/counters/rebuild"
            );
        }
    }
    Ok(())
}

fn of_its_own(process: &Process) -> Process {
    Process {
        registry: prometheus::Registry::new(),
        ..process.clone()
    }
}
