//! All verbs at once on a few products and users: no call may fail, and no answer may be wrong.

use std::collections::{HashMap, HashSet};

use inventory::{ProductId, ReservationId, batch::Batch, reservation::Refusal};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::support::{Changed as _, Shop, units};

const TASKS: u64 = 20;
const CALLS: u64 = 250;
const PRODUCTS: usize = 4;
const USERS: u64 = 10;
/// Units of a product, and how many of them others hold where units are scarce.
const STOCK: i64 = 600;
const CROWD: i32 = 540;

/// SplitMix64: a seeded random generator, good enough to mix calls.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// The collected answers. An id is listed once per answer that has it.
#[derive(Default)]
struct Answers {
    reserved: Vec<ReservationId>,
    confirmed: Vec<ReservationId>,
    canceled: Vec<ReservationId>,
    /// Number of transitions by new status.
    changed: HashMap<&'static str, u64>,
}

impl Answers {
    fn add(&mut self, batch: Batch, status: &'static str) {
        *self.changed.entry(status).or_default() += batch.changed();
        *self.changed.entry("EXPIRED").or_default() += batch.expired;
        let answers = match status {
            "ACTIVE" => &mut self.reserved,
            "CONFIRMED" => &mut self.confirmed,
            _ => &mut self.canceled,
        };
        answers.extend(batch.answers.into_iter().flatten().map(|held| held.id));
    }

    fn join(&mut self, other: Answers) {
        self.reserved.extend(other.reserved);
        self.confirmed.extend(other.confirmed);
        self.canceled.extend(other.canceled);
        for (status, changed) in other.changed {
            *self.changed.entry(status).or_default() += changed;
        }
    }
}

/// One client: it awaits each call before the next. `known` are holds that any client may end.
async fn client(shop: Shop, products: Vec<ProductId>, mut random: Random) -> Answers {
    let mut answers = Answers::default();
    let mut known: Vec<ReservationId> = Vec::new();
    for _ in 0..CALLS {
        let recent = &known[known.len().saturating_sub(12)..];
        match random.below(30) {
            call if call < 12 || known.is_empty() => {
                let requests: Vec<_> = (0..=random.below(6))
                    .map(|_| {
                        let user = 1 + random.below(USERS) as i64;
                        units(random.pick(&products), user, 1 + random.below(3) as i64)
                    })
                    .collect();
                let batch = shop.reserve(&requests).await;
                for answer in &batch.answers {
                    match answer {
                        Ok(hold) => known.push(hold.id),
                        // Probably another client's hold, which makes conflicts likely.
                        Err(Refusal::AlreadyReserved { reservation_id }) => {
                            known.push(*reservation_id);
                        }
                        Err(_) => {}
                    }
                }
                answers.add(batch, "ACTIVE");
            }
            12 => {
                // Few sales, because otherwise the products would soon be sold out.
                let ids = [random.pick(recent)];
                answers.add(shop.confirm(&ids).await, "CONFIRMED");
            }
            13..19 => {
                let ids: Vec<_> = (0..=random.below(6)).map(|_| random.pick(recent)).collect();
                answers.add(shop.cancel(&ids).await, "CANCELED");
            }
            19..22 => {
                let expired = shop.expire(random.pick(&products), 2).await;
                *answers.changed.entry("EXPIRED").or_default() += expired;
            }
            _ => {
                // Moves the deadline of one hold closer while others may be using it. (Never later: a due hold stays
                // due, as with a real clock.)
                sqlx::query(
                    "update reservations set expires_at = least(expires_at, clock_timestamp())
                    where id = $1 and status = 'ACTIVE'",
                )
                .bind(random.pick(recent))
                .execute(&shop.pool)
                .await
                .unwrap();
            }
        }
    }
    answers
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn every_answer_is_true_after_a_storm_of_mixed_calls(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let seed = std::env::var("STORM_SEED").ok().map_or_else(
        || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    println!("seed: {seed} (the same calls again with STORM_SEED={seed})");
    let shop = Shop::with_connections(TASKS as u32, options).await;
    let mut products = Vec::new();
    for _ in 0..PRODUCTS {
        products.push(shop.product(STOCK).await);
    }
    // Scarce, so that reserves must reclaim.
    for product in &products[..PRODUCTS / 2] {
        shop.crowd(*product, CROWD, 3600).await;
    }

    let mut clients = Vec::new();
    for task in 0..TASKS {
        let random = Random(seed.wrapping_add(task << 32));
        clients.push(tokio::spawn(client(shop.clone(), products.clone(), random)));
    }
    let mut answers = Answers::default();
    for client in clients {
        answers.join(client.await.unwrap());
    }

    shop.assert_sound().await;
    let stored: HashMap<i64, String> = sqlx::query_as("select id, status from reservations")
        .fetch_all(&shop.pool)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let distinct: HashSet<_> = answers.reserved.iter().collect();
    assert_eq!(
        distinct.len(),
        answers.reserved.len(),
        "one hold answered two requests"
    );
    assert!(
        answers
            .reserved
            .iter()
            .all(|id| stored.contains_key(&id.get()))
    );
    assert!(
        answers
            .confirmed
            .iter()
            .all(|id| stored[&id.get()] == "CONFIRMED")
    );
    assert!(
        answers
            .canceled
            .iter()
            .all(|id| stored[&id.get()] == "CANCELED")
    );
    let crowd = CROWD as u64 * PRODUCTS as u64 / 2;
    assert_eq!(answers.changed["ACTIVE"] + crowd, stored.len() as u64);
    for status in ["CONFIRMED", "CANCELED", "EXPIRED"] {
        let rows = stored.values().filter(|stored| *stored == status).count();
        assert_eq!(answers.changed[status], rows as u64, "{status}");
        assert!(rows > 0, "the storm made none {status}");
    }
    let twice = shop
        .count(
            "select count(*) from (
                select from reservations where status = 'ACTIVE'
                group by user_id, product_id having count(*) > 1) twice",
        )
        .await;
    assert_eq!(twice, 0, "a user holds a product twice");
}
