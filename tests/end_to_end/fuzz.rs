//! Fuzzing: thousands of random requests, byte by byte over TCP.
//!
//! A failure is shrunk and printed with its bytes. `PROPTEST_RNG_SEED` sends the same requests again, and
//! `PROPTEST_CASES` sets their number.

mod answers;
mod bodies;
mod requests;

use std::collections::BTreeMap;

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use self::{answers::Received, requests::Request};
use crate::support::System;

/// Default number of requests: about ten seconds.
const CASES: u32 = 4_000;

#[tokio::test]
async fn no_request_is_answered_with_a_fault_or_does_what_it_was_refused() {
    let system = System::start().await;
    let product = system.create_product(1_000).await;
    system.reserve(product, 1).await;
    let confirmed = system.reserve(product, 2).await;
    system.confirm(&confirmed).await;
    // For waitlists: a line keeps the units of its product from all others.
    system.create_product(0).await;
    let before = Rows::count(&system).await;

    let config = config();
    let address = system.address().to_owned();
    // The service runs in this runtime. The runner is synchronous and runs in its own thread.
    let run = tokio::task::spawn_blocking(move || {
        let seen = std::cell::RefCell::new(Seen::default());
        let result = TestRunner::new(config).run(&requests::strange(), |request| {
            let received = answers::ask(&address, &request);
            seen.borrow_mut().add(&request, received?)
        });
        result
            .map(|()| seen.into_inner())
            .map_err(|failure| failure.to_string())
    });
    let seen = run
        .await
        .unwrap()
        .unwrap_or_else(|failure| panic!("{failure}"));

    println!("{:?}", seen.statuses);
    // A run in which every request is refused early would prove little.
    for status in [200, 201, 400, 404, 405, 413, 415, 422] {
        assert!(seen.statuses.contains_key(&status), "no {status}");
    }
    let after = Rows::count(&system).await;
    assert_eq!(after.products, before.products + seen.products);
    let made = seen.reservations + after.offered;
    assert_eq!(after.reservations, before.reservations + made);
    assert_eq!(after.entries, seen.entries);
    assert_eq!(after.events, after.sold, "events and sales differ");
    system.assert_clean_audit().await;
    system.get("/livez").await.expect(200);
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    system.confirm(&hold).await;
}

fn config() -> Config {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    if config.rng_seed == RngSeed::Random {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        config.rng_seed = RngSeed::Fixed(now.as_nanos() as u64);
    }
    if let RngSeed::Fixed(seed) = config.rng_seed {
        println!("the same requests again with PROPTEST_RNG_SEED={seed}");
    }
    config.failure_persistence = None;
    config
}

/// Sums over all answers.
#[derive(Default)]
struct Seen {
    statuses: BTreeMap<u16, u32>,
    /// Products and reservations that were created, by the answers.
    products: i64,
    reservations: i64,
    /// Entries of waitlists.
    entries: i64,
}

impl Seen {
    fn add(&mut self, request: &Request, received: Vec<Received>) -> Result<(), TestCaseError> {
        for answer in received {
            answer.check(request)?;
            *self.statuses.entry(answer.status).or_default() += 1;
            let location = answer.header("location").unwrap_or_default();
            self.products += i64::from(location.starts_with("/products/"));
            self.reservations += i64::from(location.starts_with("/reservations/"));
            self.reservations += answer.batch_size();
            self.entries += i64::from(location.starts_with("/waitlist/"));
        }
        Ok(())
    }
}

/// Number of rows in the database.
struct Rows {
    products: i64,
    reservations: i64,
    sold: i64,
    events: i64,
    entries: i64,
    /// Holds that were offered to a waitlist.
    offered: i64,
}

impl Rows {
    async fn count(system: &System) -> Self {
        let (products, reservations, sold, events, entries, offered) = sqlx::query_as(
            "select (select count(*) from products), (select count(*) from reservations),
                (select count(*) from reservations where status in ('CONFIRMED', 'RETURNED')),
                (select count(*) from outbox_events), (select count(*) from waitlist_entries),
                (select count(*) from waitlist_entries where status = 'OFFERED')",
        )
        .fetch_one(&system.database.pool)
        .await
        .unwrap();
        Self {
            products,
            reservations,
            sold,
            events,
            entries,
            offered,
        }
    }
}
