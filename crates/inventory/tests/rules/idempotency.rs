//! Idempotency keys: work that is done once, stored answers, and waits between transactions.

mod reserves;

use std::time::Duration;

use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture, join_all},
};
use inventory::{
    Error, Executor, ProductId,
    idempotency::{self, Answer, Executed, Kept, Key, KeyOutcome, WorkOutcome},
    reserve,
};
use sqlx::{
    PgConnection, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::oneshot;

use crate::support::{HOLD_SECONDS, Shop, one};

/// A key for a request with this fingerprint.
fn key(name: &str, request: u8) -> Key {
    Key {
        client: String::new(),
        key: name.to_owned(),
        fingerprint: [request; 32],
    }
}

fn answer(body: &str) -> Answer {
    Answer {
        status: 201,
        location: Some(format!("/{body}")),
        body: body.to_owned(),
    }
}

/// Work that answers each new request with its position in the batch and `name`.
async fn once(pool: &PgPool, name: &str, keys: &[Key]) -> Vec<KeyOutcome> {
    let name = name.to_owned();
    let once = idempotency::execute_once(pool, keys, move |_, new| {
        let answers = new.iter().map(|n| answer(&format!("{name}{n}"))).collect();
        async move { Ok(WorkOutcome::<_, ()>::Keep(answers, ())) }.boxed()
    });
    match once.await.unwrap() {
        Executed::Kept(outcomes, _) => outcomes,
        Executed::Undone(()) => panic!("nothing was to be undone"),
    }
}

/// As `once`, in the way for new keys only.
async fn new(shop: &Shop, name: &str, keys: &[Key]) -> Option<Vec<KeyOutcome>> {
    let name = name.to_owned();
    let new = idempotency::execute_new(&shop.pool, keys, move |_, new| {
        let answers = new.iter().map(|n| answer(&format!("{name}{n}"))).collect();
        async move { Ok(WorkOutcome::<_, ()>::Keep(answers, ())) }.boxed()
    });
    match new.await.unwrap()? {
        Executed::Kept(outcomes, _) => Some(outcomes),
        Executed::Undone(()) => panic!("nothing was to be undone"),
    }
}

/// Claims a key in a transaction that stays open, as an unfinished request does.
async fn occupy(shop: &Shop, name: &str) -> Transaction<'static, Postgres> {
    let mut transaction = shop.pool.begin().await.unwrap();
    claim(&mut transaction, name).await;
    transaction
}

async fn claim(transaction: &mut PgConnection, name: &str) {
    sqlx::query("select from claim_keys_v2('{\"\"}', array[$1], array[sha256('')])")
        .bind(name)
        .execute(transaction)
        .await
        .unwrap();
}

/// Raises the lock timeout of claims, so that a slow machine does not end the wait too early.
async fn be_patient(pool: &PgPool) {
    sqlx::query("alter function claim_keys_v2(text[], text[], bytea[]) set lock_timeout = '60s'")
        .execute(pool)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_batch_does_what_is_new_and_repeats_what_is_not(pool: PgPool) {
    let first = [key("b", 1), key("a", 2)];
    let kept = [answer("x0"), answer("x1")];
    let done = kept.clone().map(KeyOutcome::Done);
    assert_eq!(once(&pool, "x", &first).await, done);
    let replayed = kept.clone().map(KeyOutcome::Replayed);
    assert_eq!(once(&pool, "y", &first).await, replayed);

    let mut others = key("a", 2);
    others.client = "other".to_owned();
    let mixed = [key("c", 2), key("a", 3), key("b", 1), others];
    let wanted = [
        KeyOutcome::Done(answer("z0")),
        KeyOutcome::Reused,
        KeyOutcome::Replayed(answer("x0")),
        KeyOutcome::Done(answer("z3")),
    ];
    assert_eq!(once(&pool, "z", &mixed).await, wanted);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn two_clients_may_use_the_same_key(pool: PgPool) {
    let mut others = key("a", 1);
    others.client = "other".to_owned();
    let both = [key("a", 1), others];
    assert_eq!(
        once(&pool, "x", &both[..1]).await,
        [KeyOutcome::Done(answer("x0"))]
    );
    assert_eq!(
        once(&pool, "y", &both[1..]).await,
        [KeyOutcome::Done(answer("y0"))]
    );
    let replayed = ["x0", "y0"].map(|body| KeyOutcome::Replayed(answer(body)));
    assert_eq!(once(&pool, "z", &both).await, replayed);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_key_that_comes_twice_in_a_batch_counts_once(pool: PgPool) {
    let keys = [key("a", 1), key("b", 1), key("a", 1), key("a", 2)];
    let wanted = [
        KeyOutcome::Done(answer("x0")),
        KeyOutcome::Done(answer("x1")),
        KeyOutcome::Replayed(answer("x0")),
        KeyOutcome::Reused,
    ];
    assert_eq!(once(&pool, "x", &keys).await, wanted);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn what_fails_or_is_undone_keeps_no_key(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(9).await;
    let keys = [key("a", 1)];
    let events = shop.events.clone();
    let undone = idempotency::execute_once(&shop.pool, &keys, move |transaction, _| {
        async move {
            let executor = Executor::Transaction(transaction);
            reserve::reserve(executor, &[one(product, 1)], HOLD_SECONDS, &events).await?;
            Ok(WorkOutcome::<(), _>::Undo("never mind"))
        }
        .boxed()
    });
    assert!(matches!(
        undone.await.unwrap(),
        Executed::Undone("never mind")
    ));
    assert_eq!(shop.counters(product).await, (9, 0, 0));

    // A connection that is lost before the commit has certainly done nothing.
    let lost = idempotency::execute_once(&shop.pool, &keys, |transaction, _| {
        async move {
            let leave = sqlx::query("select pg_terminate_backend(pg_backend_pid())");
            leave.execute(transaction).await?;
            Ok(WorkOutcome::<(), ()>::Undo(()))
        }
        .boxed()
    });
    assert!(matches!(lost.await, Err(Error::NotDone(_))));
    let done = [KeyOutcome::Done(answer("x0"))];
    assert_eq!(once(&shop.pool, "x", &keys).await, done);
}

type Given<'a> = BoxFuture<'a, Result<WorkOutcome<(), ()>, Error>>;

/// Work that answers each new request with the status at its position.
fn giving(
    statuses: &'static [i16],
) -> impl for<'a> FnOnce(&'a mut PgConnection, Vec<usize>) -> Given<'a> {
    move |_, new| {
        let answers = new.into_iter().map(|n| Answer {
            status: statuses[n],
            ..answer(&n.to_string())
        });
        let answers = answers.collect();
        async move { Ok(WorkOutcome::Keep(answers, ())) }.boxed()
    }
}

/// Answers with these statuses, in the way for new keys or in the other one.
async fn answered(
    shop: &Shop,
    at_once: bool,
    keys: &[Key],
    statuses: &'static [i16],
) -> Option<Vec<KeyOutcome>> {
    let executed = match at_once {
        true => idempotency::execute_new(&shop.pool, keys, giving(statuses)).await,
        false => idempotency::execute_once(&shop.pool, keys, giving(statuses))
            .await
            .map(Some),
    };
    match executed.unwrap()? {
        Executed::Kept(outcomes, _) => Some(outcomes),
        Executed::Undone(()) => panic!("nothing was to be undone"),
    }
}

/// The product may be on its way to another cell, and come back.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn the_answer_that_something_does_not_exist_is_not_kept(pool: PgPool) {
    let shop = Shop::new(pool);
    for at_once in [true, false] {
        let keys = ["a", "b", "c", "d"].map(|name| key(&format!("{name}{at_once}"), 1));
        let statuses = &[201, 404, 409, 404];
        let outcomes = answered(&shop, at_once, &keys, statuses).await.unwrap();
        for (outcome, status) in outcomes.iter().zip(statuses) {
            assert!(
                matches!(outcome, KeyOutcome::Done(answer) if answer.status == *status),
                "{outcome:?}"
            );
        }
        // A known answer is given again, though the request would be answered 404 now.
        assert_eq!(answered(&shop, true, &keys[..1], &[404]).await, None);
        let again = once(&shop.pool, "again", &keys).await;
        let executed: Vec<bool> = again
            .iter()
            .map(|outcome| matches!(outcome, KeyOutcome::Done(_)))
            .collect();
        assert_eq!(executed, [false, true, false, true]);
        assert!(matches!(&again[0], KeyOutcome::Replayed(answer) if answer.status == 201));
    }
    let stored = "select count(*) from idempotency_keys where status <> 404";
    assert_eq!(shop.count(stored).await, 8);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_second_request_waits_for_the_first_ones_end(pool: PgPool) {
    for commits in [true, false] {
        let shop = Shop::new(pool.clone());
        be_patient(&pool).await;
        let name = commits.to_string();
        let mut first = occupy(&shop, &name).await;
        let second = {
            let (pool, keys) = (pool.clone(), [key(&name, 1)]);
            tokio::spawn(async move { once(&pool, "x", &keys).await })
        };
        shop.until_waiting(&[second.abort_handle()]).await;
        let outcome = if commits {
            sqlx::query(
                "select keep_answers_v2('{\"\"}', array[$1], '{200}', array[null::text], '{kept}')",
            )
            .bind(&name)
            .execute(&mut *first)
            .await
            .unwrap();
            first.commit().await.unwrap();
            KeyOutcome::Reused
        } else {
            first.rollback().await.unwrap();
            KeyOutcome::Done(answer("x0"))
        };
        assert_eq!(second.await.unwrap(), [outcome]);
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_batch_that_waits_for_a_key_has_none_that_comes_after_it(pool: PgPool) {
    let shop = Shop::new(pool.clone());
    be_patient(&pool).await;
    let mut first = occupy(&shop, "m").await;
    let second = {
        let (pool, keys) = (pool.clone(), [key("z", 1), key("m", 1)]);
        tokio::spawn(async move { once(&pool, "x", &keys).await })
    };
    shop.until_waiting(&[second.abort_handle()]).await;
    // In another order, the two would deadlock.
    claim(&mut first, "z").await;
    first.rollback().await.unwrap();
    let done = ["x0", "x1"].map(|body| KeyOutcome::Done(answer(body)));
    assert_eq!(second.await.unwrap(), done);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_key_that_stays_in_use_holds_up_nobody_else(pool: PgPool) {
    let shop = Shop::new(pool);
    let _holders = [occupy(&shop, "b").await, occupy(&shop, "d").await];
    let keys = ["a", "b", "c", "d", "e"].map(|name| key(name, 1));
    let wanted = [
        KeyOutcome::Done(answer("x0")),
        KeyOutcome::InUse,
        KeyOutcome::Done(answer("x2")),
        KeyOutcome::InUse,
        KeyOutcome::Done(answer("x4")),
    ];
    assert_eq!(once(&shop.pool, "x", &keys).await, wanted);
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_process_that_freezes_in_the_middle_loses_its_keys_and_products(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(2).await;
    let (reserved, frozen_now) = oneshot::channel();
    let frozen = {
        let shop = shop.clone();
        tokio::spawn(async move {
            let keys = [key("a", 1)];
            let once = idempotency::execute_once(&shop.pool, &keys, move |transaction, _| {
                async move {
                    let executor = Executor::Transaction(transaction);
                    reserve::reserve(executor, &[one(product, 1)], HOLD_SECONDS, &shop.events)
                        .await?;
                    reserved.send(()).unwrap();
                    future::pending::<Result<WorkOutcome<(), ()>, Error>>().await
                }
                .boxed()
            });
            once.await.map(|_| ())
        })
    };
    frozen_now.await.unwrap();
    while once(&shop.pool, "x", &[key("a", 1)]).await == [KeyOutcome::InUse] {}
    shop.hold(product, 1).await;
    shop.hold(product, 2).await;
    assert!(!frozen.is_finished(), "it gave the key up by itself");
    frozen.abort();
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn batches_with_the_same_keys_in_any_order_do_each_thing_once(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let shop = Shop::with_connections(8, options).await;
    let products: [ProductId; 2] = [shop.product(1000).await, shop.product(1000).await];
    // Each copy of the service gets the same forty requests in another order.
    let copies = (0..8).map(|copy| {
        let shop = shop.clone();
        tokio::spawn(async move {
            let turned = (0..40).map(|n| (n * 7 + copy * 11) % 40);
            let turned: Vec<i64> = if copy % 2 == 0 {
                turned.collect()
            } else {
                turned.rev().collect()
            };
            let keys: Vec<_> = turned.iter().map(|n| key(&n.to_string(), 1)).collect();
            let requests = turned.iter().map(|n| one(products[*n as usize % 2], n + 1));
            let requests: Vec<_> = requests.collect();
            let answers = reserves::reserve(&shop, &keys, &requests).await;
            let holds = answers
                .into_iter()
                .map(|answer| answer.unwrap().unwrap().id);
            let mut answered: Vec<_> = turned.into_iter().zip(holds).collect();
            answered.sort();
            answered
        })
    });
    let answers: Vec<_> = join_all(copies)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for copy in &answers {
        assert_eq!(copy, &answers[0], "a copy was told something else");
    }
    for product in products {
        assert_eq!(shop.counters(product).await, (980, 20, 0));
    }
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_purge_takes_the_oldest_keys_in_bits_and_no_others(pool: PgPool) {
    let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let keys: Vec<Key> = names.iter().map(|name| key(name, 1)).collect();
    once(&pool, "x", &keys).await;
    sqlx::query(
        "update idempotency_keys
        set created_at = created_at - make_interval(hours => key::integer),
            status = case when key::integer in (3, 7) then 409 else status end",
    )
    .execute(&pool)
    .await
    .unwrap();
    let purge = async |kept, hours: u64, max_rows| {
        let age = Duration::from_secs(hours * 3_600);
        idempotency::purge(&pool, kept, age, max_rows)
            .await
            .unwrap()
    };
    // Refusals that are 3 and 7 hours old.
    assert_eq!(purge(Kept::Refused, 4, 3).await, 1);
    assert_eq!(purge(Kept::Refused, 2, 3).await, 1);
    // Answers that are 5, 6, 8 and 9 hours old.
    for wanted in [3, 1, 0] {
        assert_eq!(purge(Kept::Done, 5, 3).await, wanted);
    }
    let outcomes = once(&pool, "y", &keys).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let wanted = match n {
            0..=2 | 4 => KeyOutcome::Replayed(answer(&format!("x{n}"))),
            _ => KeyOutcome::Done(answer(&format!("y{n}"))),
        };
        assert_eq!(outcome, wanted);
    }
}

/// With statistics from before the first key.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_batch_reads_its_own_keys_only(_: PgPoolOptions, options: PgConnectOptions) {
    const KEPT: i64 = 20_000;
    const ENTRIES_PER_KEY: i64 = 12;
    let shop = Shop::with_connections(1, options).await;
    sqlx::raw_sql(
        "alter table idempotency_keys set (autovacuum_enabled = off); analyze idempotency_keys",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    let read = async || {
        sqlx::raw_sql("select pg_stat_force_next_flush()")
            .execute(&shop.pool)
            .await
            .unwrap();
        shop.count(
            "select (select sum(idx_tup_read) from pg_stat_user_indexes)::bigint
                + (select sum(seq_tup_read) from pg_stat_user_tables)::bigint",
        )
        .await
    };
    for round in 0..3 {
        if round == 1 {
            sqlx::query(
                "insert into idempotency_keys (client, key, fingerprint, status, body)
                select '', 'kept' || n, sha256(''), 200, '' from generate_series(1, $1) n",
            )
            .bind(KEPT)
            .execute(&shop.pool)
            .await
            .unwrap();
        }
        let names: Vec<String> = (0..50).map(|n| format!("{round}-{n}")).collect();
        let mut keys: Vec<Key> = names.iter().map(|name| key(name, 1)).collect();
        if round > 0 {
            keys.extend((1..=50).map(|n| key(&format!("kept{n}"), 1)));
        }
        let before = read().await;
        once(&shop.pool, "x", &keys).await;
        let entries = read().await - before;
        assert!(entries <= 100 * ENTRIES_PER_KEY, "read {entries}");
    }
}
