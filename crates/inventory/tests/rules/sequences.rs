//! Random sequences of operations, each answer and each row held against the reference.
//!
//! A failure is shrunk to few steps and printed with them. `PROPTEST_RNG_SEED` runs the same sequences again,
//! `PROPTEST_CASES` more of them.

mod reference;
mod run;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};
use sqlx::PgPool;

use self::run::Run;
use crate::support::Shop;

/// How many sequences run by themselves: some ten seconds.
const CASES: u32 = 256;

/// Products and holds are named by small numbers, holds from the newest back. A number that nothing has
/// yet is an unknown id.
#[derive(Clone, Debug)]
enum Step {
    Create {
        stock: i32,
    },
    Reserve(Vec<Wish>),
    Confirm(Vec<usize>),
    Cancel(Vec<usize>),
    /// Moves a deadline into the past; a greater age is longer ago.
    Backdate(Vec<(usize, i32)>),
    Expire {
        product: usize,
        max_rows: i32,
    },
    Sweep {
        max_rows: i32,
    },
}

#[derive(Clone, Debug)]
struct Wish {
    product: usize,
    user: i64,
    quantity: i32,
}

fn sequences() -> impl Strategy<Value = Vec<Step>> {
    let create = (0..9).prop_map(|stock| Step::Create { stock });
    let opening = vec(create.clone(), 1..3);
    // Few of everything, so that they meet.
    let product = || prop_oneof![6 => Just(0), 3 => Just(1), 1 => 2..4_usize];
    let wish = (product(), 1..7_i64, 1..4).prop_map(|(product, user, quantity)| Wish {
        product,
        user,
        quantity,
    });
    let holds = || vec(0..8_usize, 1..5);
    let step = prop_oneof![
        1 => create,
        8 => vec(wish, 1..7).prop_map(Step::Reserve),
        3 => holds().prop_map(Step::Confirm),
        3 => holds().prop_map(Step::Cancel),
        6 => vec((0..8_usize, 1..4), 1..5).prop_map(Step::Backdate),
        2 => (product(), 0..3).prop_map(|(product, max_rows)| Step::Expire { product, max_rows }),
        1 => (1..3).prop_map(|max_rows| Step::Sweep { max_rows }),
    ];
    (opening, vec(step, 1..24)).prop_map(|(opening, steps)| [opening, steps].concat())
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn every_sequence_of_operations_goes_by_the_rules(pool: PgPool) {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    if config.rng_seed == RngSeed::Random {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        config.rng_seed = RngSeed::Fixed(now.as_nanos() as u64);
    }
    if let RngSeed::Fixed(seed) = config.rng_seed {
        println!("the same sequences again with PROPTEST_RNG_SEED={seed}");
    }
    config.failure_persistence = None;
    let shop = Shop::new(pool);
    let runtime = tokio::runtime::Handle::current();
    // The runner is no future, and calls the test from where it stands.
    let run = tokio::task::spawn_blocking(move || {
        TestRunner::new(config).run(&sequences(), |steps| {
            runtime.block_on(Run::new(&shop).go_through(&steps))
        })
    });
    if let Err(failure) = run.await.unwrap() {
        panic!("{failure}");
    }
}
