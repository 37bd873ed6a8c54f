//! The sale: creates the products, opens, and waits until nothing is held.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{self, ITEMS, Shopper, Times},
    journal::Journal,
    report::{self, Stand},
    settings::Settings,
    shop::Shop,
    shopper::{self, Outcome},
    state::{Product, Sale},
};

/// How long to wait for shoppers without an answer at the end.
const OVERTIME: Duration = Duration::from_secs(5);

/// How long units may be held after the end. An expirer needs about 1 s.
const EXPIRY_LIMIT: Duration = Duration::from_secs(25);

const LINES: u32 = 18;

/// Runs one demo and prints its progress. Returns the violations. An error means that the demo could not run or
/// finish.
pub(crate) async fn run(
    settings: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<String>> {
    let journal = Arc::new(Journal::default());
    let closing = stop.child_token();
    let shop = Shop::new(settings, journal.clone(), closing.clone())?;
    shop.greet().await?;
    let times = Times::of(settings.length);
    let products = create_products(&shop, settings.shoppers, times).await?;
    print!("{}", report::opening(settings, times));
    let sale = Arc::new(Sale {
        shop,
        journal,
        products,
        times,
        opened: Instant::now(),
    });
    let shoppers = catalog::shoppers(settings.seed, settings.shoppers, times);
    let outcomes = open_the_doors(&sale, shoppers, closing).await?;
    let stands = wait_for_expiry(&sale, stop).await?;
    let took = sale.opened.elapsed();
    let audit = sale.shop.audit().await?;
    let entries = sale.journal.open();
    print!(
        "{}",
        report::result(&entries, &outcomes, &stands, took, settings.seed)
    );
    let wrong = report::wrong(&entries, &stands, &audit, stop.is_cancelled());
    print!("{}", report::verdict(&wrong, &audit));
    Ok(wrong)
}

async fn create_products(shop: &Shop, shoppers: u32, times: Times) -> anyhow::Result<Vec<Product>> {
    let mut products: Vec<Product> = Vec::new();
    // By the service's clock, which may differ from this machine's.
    let mut began = None;
    for item in &ITEMS {
        let mut wanted = json!({
            "name": item.name,
            "stock": item.stock(shoppers),
            "hold_seconds": times.hold.as_secs(),
            "max_per_user": item.max_per_user,
        });
        let mut opens = Instant::now();
        if let (true, Some(began)) = (item.opens_late, began) {
            wanted["sale_starts_at"] = Value::from(rfc3339(began + times.second_opening)?);
            opens += times.second_opening;
        }
        let created = shop.create_product(&wanted).await?;
        if began.is_none() {
            let text = created["created_at"].as_str().context("no created_at")?;
            began = Some(OffsetDateTime::parse(text, &Rfc3339)?);
        }
        let id = created["id"].as_i64().context("a product without an id")?;
        products.push(Product { id, opens });
    }
    Ok(products)
}

fn rfc3339(time: OffsetDateTime) -> anyhow::Result<String> {
    Ok(time.format(&Rfc3339)?)
}

/// Runs until the last shopper leaves, or the time is over.
async fn open_the_doors(
    sale: &Arc<Sale>,
    shoppers: Vec<Shopper>,
    closing: CancellationToken,
) -> anyhow::Result<BTreeMap<Outcome, usize>> {
    let mut beside = JoinSet::new();
    beside.spawn(print_lines(sale.clone()));
    let last_call = sale.opened + sale.times.end + OVERTIME;
    let close = closing.clone();
    beside.spawn(async move {
        sleep_until(last_call).await;
        close.cancel();
    });
    let mut visits = JoinSet::new();
    for shopper in shoppers {
        let arrival = sleep_until(sale.opened + shopper.arrives);
        if closing.run_until_cancelled(arrival).await.is_none() {
            break;
        }
        sale.journal.open().arrived += 1;
        visits.spawn(shopper::visit(sale.clone(), shopper));
    }
    let mut outcomes = BTreeMap::new();
    while let Some(outcome) = visits.join_next().await {
        *outcomes.entry(outcome?).or_default() += 1;
    }
    // Dropping both ends them.
    drop(beside);
    Ok(outcomes)
}

async fn print_lines(sale: Arc<Sale>) {
    let every = (sale.times.end / LINES).max(Duration::from_secs(1));
    print!("{}", report::head());
    let mut reserved_before = 0;
    for number in 1.. {
        sleep_until(sale.opened + every * number).await;
        let entries = sale.journal.open();
        let tally = entries.tally(Instant::now());
        let rate = (tally.reserved - reserved_before) as f64 / every.as_secs_f64();
        reserved_before = tally.reserved;
        print!("{}", report::line(every * number, &entries, &tally, rate));
    }
}

/// The products in the API as soon as nothing is held, or at the time limit.
async fn wait_for_expiry(sale: &Sale, stop: &CancellationToken) -> anyhow::Result<Vec<Stand>> {
    let limit = sale.opened + sale.times.end + EXPIRY_LIMIT;
    loop {
        let mut stands = Vec::new();
        for product in &sale.products {
            stands.push(Stand::read(&sale.shop.product(product.id).await?)?);
        }
        let held = stands.iter().any(|stand| stand.held != 0);
        if !held || stop.is_cancelled() || Instant::now() > limit {
            return Ok(stands);
        }
        stop.run_until_cancelled(sleep(Duration::from_millis(200)))
            .await;
    }
}
