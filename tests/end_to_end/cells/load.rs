//! A product moves while shoppers reserve, confirm and cancel in both cells.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::stage::{Cells, IDS};
use crate::support::{Answer, Client, id};

const SHOPPERS: i64 = 12;
const STOCK: i32 = 60;

/// The old cell's PostgreSQL ends a move that keeps requests waiting for 5 s. No more than the commits may come on top of that,
/// however slow the machine is. docs/operating.md has the figures of a quick one.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What the shoppers know.
#[derive(Default)]
struct Seen {
    held: BTreeSet<i64>,
    sold: BTreeSet<i64>,
    canceled: BTreeSet<i64>,
    /// Purchases in the new cell.
    in_new: u64,
}

/// A backend that follows the product: it repeats a refused request in the cell that the answer names.
struct Backend {
    cells: [Client; 2],
    cell: usize,
}

impl Backend {
    async fn send(&mut self, path: &str, body: Option<&Value>) -> Answer {
        loop {
            let client = &self.cells[self.cell];
            let answer = match body {
                Some(body) => client.post_json(path, body).await,
                None => client.post(path).await,
            };
            match answer.status.as_u16() {
                421 => {
                    let moved = answer.expect_problem(421, "product_moved");
                    assert_eq!((moved["cell"].as_i64(), self.cell), (Some(1), 0));
                    self.cell = 1;
                }
                // Never "unknown", and never an unknown outcome.
                503 => {
                    answer.expect_problem(503, "overloaded");
                    tokio::task::yield_now().await;
                }
                _ => return answer,
            }
        }
    }

    async fn act(&mut self, hold: i64, act: &str) {
        self.send(&format!("/reservations/{hold}/{act}"), None)
            .await
            .expect(200);
    }
}

/// Buys until `over`, and five times in the new cell.
async fn shop(
    cells: [Client; 2],
    product: i64,
    number: i64,
    over: CancellationToken,
    bought: &AtomicU64,
) -> Seen {
    let (mut seen, mut backend) = (Seen::default(), Backend { cells, cell: 0 });
    let mut user = number;
    while !over.is_cancelled() || seen.in_new < 5 {
        user += SHOPPERS;
        let wish = json!({"product_id": product, "user_id": user});
        let answer = backend.send("/reservations", Some(&wish)).await;
        if answer.status == 409 {
            answer.expect_problem(409, "sold_out");
            // Somebody will return something, or this shopper does.
            if let Some(sold) = seen.sold.pop_first() {
                backend.act(sold, "return").await;
                seen.canceled.insert(sold);
            } else if let Some(held) = seen.held.pop_first() {
                backend.act(held, "cancel").await;
                seen.canceled.insert(held);
            }
            seen.in_new += u64::try_from(backend.cell).unwrap();
            continue;
        }
        let hold = id(&answer.expect(201));
        match user / SHOPPERS % 3 {
            0 => {
                backend.act(hold, "confirm").await;
                seen.sold.insert(hold);
            }
            1 => {
                backend.act(hold, "cancel").await;
                seen.canceled.insert(hold);
            }
            _ => {
                seen.held.insert(hold);
            }
        }
        seen.in_new += u64::try_from(backend.cell).unwrap();
        bought.fetch_add(1, Relaxed);
    }
    seen
}

/// Buys another product of one cell until `over`. Nothing of it may be refused.
async fn shop_elsewhere(client: Client, over: CancellationToken) {
    let product = client.create_product(1_000_000).await;
    let mut user = 0;
    while !over.is_cancelled() {
        user += 1;
        let hold = client.reserve(product, user).await;
        client.confirm(&hold).await;
    }
}

/// How long requests waited, as the command says.
fn pause(told: &str) -> Duration {
    let (_, rest) = told
        .split_once("is on sale in cell 1: requests waited for ")
        .expect(told);
    let (milliseconds, _) = rest.split_once(" ms;").expect(told);
    Duration::from_millis(milliseconds.parse().expect(told))
}

async fn statuses(client: &Client, ids: &BTreeSet<i64>) -> BTreeSet<String> {
    let looks = ids.iter().map(|id| client.look_up_id(*id));
    join_all(looks)
        .await
        .into_iter()
        .map(|seen| seen["status"].to_string())
        .collect()
}

#[tokio::test]
async fn nothing_is_lost_and_nothing_is_sold_twice() {
    let cells = Cells::start(&[]).await;
    let product = cells.old.create_product(STOCK).await;
    let (over, bought) = (CancellationToken::new(), AtomicU64::new(0));
    let clients = || [cells.old.client(), cells.new.client()];
    let shoppers =
        (1..=SHOPPERS).map(|number| shop(clients(), product, number, over.clone(), &bought));
    let elsewhere = clients().map(|client| shop_elsewhere(client, over.clone()));
    let moving = async {
        crate::support::eventually("a sale in progress", async || {
            (bought.load(Relaxed) > 30).then_some(())
        })
        .await;
        let told = cells.moves(product).await;
        over.cancel();
        told
    };
    let (told, shoppers, _) = tokio::join!(moving, join_all(shoppers), join_all(elsewhere));
    let pause = pause(&told);
    println!("requests waited for {pause:?}");
    assert!(pause < MAX_PAUSE, "{told}");

    let mut all = Seen::default();
    for mut seen in shoppers {
        all.held.append(&mut seen.held);
        all.sold.append(&mut seen.sold);
        all.canceled.append(&mut seen.canceled);
    }
    let counted = cells.new.product(product).await;
    let units = |ids: &BTreeSet<i64>| json!(ids.len());
    assert_eq!(
        (&counted["held"], &counted["sold"]),
        (&units(&all.held), &units(&all.sold))
    );
    assert_eq!(counted["total"], STOCK);
    let (old, new) = (cells.old.client(), cells.new.client());
    assert_eq!(
        statuses(&new, &all.held).await,
        ["\"ACTIVE\"".to_owned()].into()
    );
    assert_eq!(
        statuses(&new, &all.sold).await,
        ["\"CONFIRMED\"".to_owned()].into()
    );
    let of_all = all.held.iter().chain(&all.sold).chain(&all.canceled);
    let (made_in_old, made_in_new): (Vec<i64>, Vec<i64>) = of_all.partition(|id| **id < IDS);
    assert!(!made_in_new.is_empty());
    for id in made_in_old {
        let there = old.get(&format!("/reservations/{id}")).await;
        there.expect_problem(421, "product_moved");
    }
    cells.assert_clean_audits().await;
    // No relay has run. Each sale, also one that was returned, has its event once.
    let mut events = Vec::new();
    for cell in [&cells.old, &cells.new] {
        let sold: Vec<i64> = sqlx::query_scalar(
            "select (payload->>'reservation_id')::bigint from outbox_events where payload->>'product_id' = $1::text",
        )
        .bind(product)
        .fetch_all(&cell.database.pool)
        .await
        .unwrap();
        events.push(sold);
    }
    assert_eq!(events[0], [0; 0]);
    let once: BTreeSet<i64> = events[1].iter().copied().collect();
    assert_eq!(once.len(), events[1].len());
    assert!(all.sold.is_subset(&once));
    let sales: i64 = sqlx::query_scalar(
        "select count(*) from reservations where product_id = $1 and confirmed_at is not null",
    )
    .bind(product)
    .fetch_one(&cells.new.database.pool)
    .await
    .unwrap();
    assert_eq!(sales, once.len() as i64);
}
