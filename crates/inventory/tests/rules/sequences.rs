//! Random sequences of operations. Each answer and each row is compared with a reference.
//!
//! A failure is shrunk to few steps and printed with them. `PROPTEST_RNG_SEED` runs the same sequences again, and
//! `PROPTEST_CASES` sets their number.

mod compare;
mod reference;
mod run;

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    test_runner::{Config, RngSeed, TestRunner},
};
use sqlx::PgPool;

use self::{
    reference::{Rules, Window},
    run::Run,
};
use crate::support::{ALL_EVENTS, Shop};

/// Default number of sequences: about ten seconds.
const CASES: u32 = 128;

/// Products and holds have small numbers. Holds count from the newest back. An unused number is an unknown id.
#[derive(Clone, Debug)]
enum Step {
    Create {
        stock: i32,
        rules: Rules,
    },
    Change {
        product: usize,
        change: Change,
    },
    AdjustStock {
        product: usize,
        delta: i32,
    },
    SetStock {
        product: usize,
        stock: i32,
        expected: Option<i32>,
    },
    Reserve(Vec<Wish>),
    /// All for one user.
    ReserveBatch(Vec<Wish>),
    Confirm(Vec<usize>),
    Cancel(Vec<usize>),
    Extend(Vec<(usize, i32)>),
    Reacquire(usize),
    Return(Vec<usize>),
    ConfirmBatch {
        holds: Vec<usize>,
        reacquire: bool,
    },
    CancelBatch(Vec<usize>),
    ExtendBatch(Vec<usize>, i32),
    Join(Wish),
    /// Entries count from the newest back.
    Leave(usize),
    /// Moves deadlines into the past. A greater age is further back.
    Backdate(Vec<(usize, i32)>),
    Expire {
        product: usize,
        max_rows: i32,
    },
    Sweep {
        max_rows: i32,
    },
}

/// New rules of a sale. `None` leaves a rule unchanged.
#[derive(Clone, Debug)]
struct Change {
    hold_seconds: Option<Option<i32>>,
    max_hold_seconds: Option<Option<i32>>,
    max_per_user: Option<Option<i32>>,
    window: Option<Window>,
}

#[derive(Clone, Debug)]
struct Wish {
    product: usize,
    user: i64,
    quantity: i32,
    /// Whether it has a reference, which names the user.
    named: bool,
}

// The durations differ so much that a slow machine cannot confuse them.
fn hold_seconds() -> impl Strategy<Value = Option<i32>> {
    option::weighted(0.3, Just(1_000))
}

fn max_hold_seconds() -> impl Strategy<Value = Option<i32>> {
    option::of(select(vec![100, 20_000]))
}

fn max_per_user() -> impl Strategy<Value = Option<i32>> {
    option::of(1..5)
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        8 => Just(Window::Always),
        4 => Just(Window::Open),
        3 => Just(Window::Ahead),
        3 => Just(Window::Over),
    ]
}

fn sequences() -> impl Strategy<Value = Vec<Step>> {
    let rules = (hold_seconds(), max_hold_seconds(), max_per_user(), window());
    let rules = rules.prop_map(
        |(hold_seconds, max_hold_seconds, max_per_user, window)| Rules {
            hold_seconds,
            max_hold_seconds,
            max_per_user,
            window,
        },
    );
    let create = (0..9, rules)
        .prop_map(|(stock, rules)| Step::Create { stock, rules })
        .boxed();
    let opening = vec(create.clone(), 1..3);
    // Few products, so that operations often meet.
    let product = || prop_oneof![6 => Just(0), 3 => Just(1), 1 => 2..4_usize];
    let change = (
        option::weighted(0.3, hold_seconds()),
        option::weighted(0.3, max_hold_seconds()),
        option::weighted(0.3, max_per_user()),
        option::weighted(0.3, window()),
    );
    let change = change.prop_map(
        |(hold_seconds, max_hold_seconds, max_per_user, window)| Change {
            hold_seconds,
            max_hold_seconds,
            max_per_user,
            window,
        },
    );
    let delta = prop_oneof![12 => -6..0, 8 => 1..6, 1 => select(vec![i32::MIN, i32::MAX])];
    let stock = prop_oneof![12 => 0..9, 1 => Just(i32::MAX)];
    let wish = || {
        (product(), 1..7_i64, 1..4, any::<bool>()).prop_map(|(product, user, quantity, named)| {
            Wish {
                product,
                user,
                quantity,
                named,
            }
        })
    };
    let batch = (vec(wish(), 1..4), 1..7_i64).prop_map(|(wishes, user)| for_one(user, wishes));
    // Sometimes an unknown one.
    let hold = || prop_oneof![8 => 0..4_usize, 2 => 4..8_usize];
    let holds = move || vec(hold(), 1..5);
    // Rarely an unknown one: it would refuse the whole order.
    let order = || vec(prop_oneof![20 => 0..4_usize, 1 => 4..8_usize], 1..4);
    let reserve = vec(wish(), 3..9).prop_map(Step::Reserve).boxed();
    let backdate = vec((hold(), 1..4), 1..5).prop_map(Step::Backdate).boxed();
    // Others take what there is. When one of their holds is due, the order itself hands its units to the user's place in the
    // line.
    let order_of_who_waits = (wish(), vec(1..4, 3), backdate.clone(), vec(wish(), 0..3)).prop_map(
        |(wish, quantities, backdate, mut order)| {
            let others = (wish.user + 1..).zip(quantities);
            let others = others.map(|(user, quantity)| Wish {
                user,
                quantity,
                ..wish.clone()
            });
            order.insert(0, wish.clone());
            vec![
                Step::Reserve(others.collect()),
                Step::Join(wish.clone()),
                backdate,
                Step::ReserveBatch(for_one(wish.user, order)),
            ]
        },
    );
    let seconds = select(vec![1, 10_000, i32::MAX]);
    let step = prop_oneof![
        1 => create,
        1 => (product(), change).prop_map(|(product, change)| Step::Change { product, change }),
        2 => (product(), delta).prop_map(|(product, delta)| Step::AdjustStock { product, delta }),
        2 => (product(), stock, option::of(0..6)).prop_map(|(product, stock, expected)| {
            Step::SetStock { product, stock, expected }
        }),
        8 => reserve.clone(),
        3 => batch.prop_map(Step::ReserveBatch),
        3 => holds().prop_map(Step::Confirm),
        3 => holds().prop_map(Step::Cancel),
        3 => vec((hold(), seconds.clone()), 1..5).prop_map(Step::Extend),
        8 => hold().prop_map(Step::Reacquire),
        3 => holds().prop_map(Step::Return),
        4 => (order(), any::<bool>())
            .prop_map(|(holds, reacquire)| Step::ConfirmBatch { holds, reacquire }),
        2 => order().prop_map(Step::CancelBatch),
        3 => (order(), seconds.clone())
            .prop_map(|(holds, seconds)| Step::ExtendBatch(holds, seconds)),
        8 => wish().prop_map(Step::Join),
        2 => (0..4_usize).prop_map(Step::Leave),
        6 => backdate.clone(),
        2 => (product(), 0..3).prop_map(|(product, max_rows)| Step::Expire { product, max_rows }),
        1 => (1..3).prop_map(|max_rows| Step::Sweep { max_rows }),
    ];
    let steps = prop_oneof![
        30 => step.prop_map(|step| vec![step]),
        2 => order_of_who_waits,
    ];
    (opening, reserve, backdate, vec(steps, 1..32)).prop_map(
        |(opening, reserve, backdate, steps)| {
            [opening, vec![reserve, backdate], steps.concat()].concat()
        },
    )
}

/// An order of this user.
fn for_one(user: i64, mut wishes: Vec<Wish>) -> Vec<Wish> {
    wishes.sort_by_key(|wish| wish.product);
    wishes.dedup_by_key(|wish| wish.product);
    wishes.iter_mut().for_each(|wish| wish.user = user);
    // Not in the order of locking.
    wishes.reverse();
    wishes
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
    let mut shop = Shop::new(pool);
    shop.events = ALL_EVENTS.parse().unwrap();
    let runtime = tokio::runtime::Handle::current();
    // The runner is synchronous and calls the test itself.
    let run = tokio::task::spawn_blocking(move || {
        TestRunner::new(config).run(&sequences(), |steps| {
            runtime.block_on(Run::new(&shop).go_through(&steps))
        })
    });
    if let Err(failure) = run.await.unwrap() {
        panic!("{failure}");
    }
}
