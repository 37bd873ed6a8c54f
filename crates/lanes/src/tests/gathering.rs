//! What a lane gathers before it takes a batch.

use super::*;

impl Bench {
    /// A lane whose last call had two requests and has waited for a lock.
    async fn after_a_wait(limits: Limits) -> Self {
        let mut bench = Self::new(limits);
        let mut asked = Vec::new();
        for request in [1, SLOW, 2] {
            asked.push(bench.ask(request).await);
        }
        bench.gate.add_permits(9);
        for asked in asked {
            assert!(asked.await.is_ok_and(|answer| answer.is_ok()));
        }
        assert_eq!(bench.batch().await, [1]);
        assert_eq!(bench.batch().await, [SLOW, 2]);
        bench
    }
}

/// From tasks that are ready when a call ends, and from tasks that become ready while these run.
#[tokio::test]
async fn a_batch_takes_in_what_has_arrived() {
    let mut bench = Bench::new(Limits {
        batch: 9,
        depth: 9,
        ..LIMITS
    });
    for request in 1..=4 {
        bench.ask(request).await;
    }
    bench.gate.add_permits(1);
    assert_eq!(bench.batch().await, [1]);
    assert_eq!(bench.batch().await, [2, 3, 4]);
    bench.ask(5).await;
    // The call ends, and the lane is the first of the tasks that run now.
    bench.gate.add_permits(2);
    let ready = tokio::spawn(asked(&bench.lanes, 6));
    let later = asked(&bench.lanes, 8);
    let later = tokio::spawn(async {
        tokio::task::yield_now().await;
        tokio::spawn(later).await
    });
    assert_eq!(bench.batch().await, [5, 6, 8]);
    assert_eq!(ready.await.ok(), Some(Ok(12)));
    assert!(matches!(later.await, Ok(Ok(Ok(16)))));
}

#[tokio::test]
async fn a_lone_request_does_not_wait_for_tasks_that_are_ready() {
    let mut bench = Bench::new(LIMITS);
    bench.gate.add_permits(9);
    let first = bench.ask(1).await;
    assert_eq!(first.await.ok(), Some(Ok(2)));
    let (second, third) = (asked(&bench.lanes, 2), asked(&bench.lanes, 3));
    let both = tokio::spawn(async { tokio::join!(second, async { tokio::spawn(third).await }) });
    for request in 1..=3 {
        assert_eq!(bench.batch().await, [request]);
    }
    assert!(both.await.is_ok());
}

/// The batch before is answered first.
#[tokio::test(start_paused = true)]
async fn after_a_wait_the_next_batch_gathers_for_as_long() {
    let mut bench = Bench::after_a_wait(LIMITS).await;
    let start = Instant::now();
    let asked = bench.ask(3).await;
    // The paused clock advances when all tasks wait.
    assert_eq!(bench.batch().await, [3]);
    assert_eq!(start.elapsed().as_millis(), WAIT.as_millis());
    assert_eq!(asked.await.ok(), Some(Ok(6)));
    // A single request shows that little is going on.
    let start = Instant::now();
    bench.ask(4).await;
    assert_eq!(bench.batch().await, [4]);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn gathering_ends_when_as_many_wait_as_came_before() {
    let mut bench = Bench::after_a_wait(LIMITS).await;
    let start = Instant::now();
    let first = bench.ask(3).await;
    assert!(bench.batches.try_recv().is_err(), "one is not enough");
    let second = bench.ask(4).await;
    assert_eq!(bench.batch().await, [3, 4]);
    for (request, asked) in [(3, first), (4, second)] {
        assert_eq!(asked.await.ok(), Some(Ok(request * 2)));
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// The time counts from the last answers.
#[tokio::test(start_paused = true)]
async fn a_lane_that_was_idle_does_not_gather() {
    let mut bench = Bench::after_a_wait(LIMITS).await;
    advance(2 * WAIT).await;
    let start = Instant::now();
    bench.ask(3).await;
    assert_eq!(bench.batch().await, [3]);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// Only then can their clients send the next requests.
#[tokio::test(start_paused = true)]
async fn the_time_counts_from_the_answers() {
    let mut bench = Bench::new(LIMITS);
    let start = Instant::now();
    for request in [1, SLOW, SLOW_ANSWER] {
        bench.ask(request).await;
    }
    bench.gate.add_permits(9);
    assert_eq!(bench.batch().await, [1]);
    assert_eq!(bench.batch().await, [SLOW, SLOW_ANSWER]);
    while start.elapsed() < 2 * WAIT {
        tokio::task::yield_now().await;
    }
    bench.ask(2).await;
    assert_eq!(bench.batch().await, [2]);
    assert_eq!(start.elapsed(), 3 * WAIT);
}

#[tokio::test(start_paused = true)]
async fn gathering_ends_when_a_batch_is_full() {
    let mut bench = Bench::new(LIMITS);
    let _first = bench.ask(1).await;
    for request in [SLOW, 2, 3, 4] {
        bench.ask(request).await;
    }
    let start = Instant::now();
    bench.gate.add_permits(9);
    assert_eq!(bench.batch().await, [1]);
    assert_eq!(bench.batch().await, [SLOW, 2, 3]);
    // Four are expected, and one of them waits.
    while start.elapsed() < WAIT {
        tokio::task::yield_now().await;
    }
    for request in [5, 6] {
        assert!(bench.batches.try_recv().is_err());
        bench.ask(request).await;
    }
    assert_eq!(bench.batch().await, [4, 5, 6]);
    assert_eq!(start.elapsed(), WAIT);
}

/// More than the queue has room for can never wait.
#[tokio::test(start_paused = true)]
async fn gathering_ends_when_the_queue_is_full() {
    let mut bench = Bench::new(Limits { depth: 2, ..LIMITS });
    let start = Instant::now();
    let _first = bench.ask(1).await;
    assert_eq!(bench.batch().await, [1]);
    for request in [SLOW, 2] {
        bench.ask(request).await;
    }
    bench.gate.add_permits(1);
    assert_eq!(bench.batch().await, [SLOW, 2]);
    for request in [3, 4] {
        bench.ask(request).await;
    }
    bench.gate.add_permits(9);
    assert_eq!(bench.batch().await, [3, 4]);
    assert_eq!(start.elapsed(), WAIT);
}

/// Requests may wait only so long.
#[tokio::test(start_paused = true)]
async fn gathering_takes_at_most_a_quarter_of_what_a_request_may_wait() {
    let wait = 2 * WAIT;
    let mut bench = Bench::after_a_wait(Limits { wait, ..LIMITS }).await;
    let start = Instant::now();
    bench.ask(3).await;
    assert_eq!(bench.batch().await, [3]);
    assert_eq!(start.elapsed().as_millis(), (wait / 4).as_millis());
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_gathering() {
    let mut bench = Bench::after_a_wait(LIMITS).await;
    let start = Instant::now();
    let asked = bench.ask(3).await;
    bench.stop.cancel();
    assert_eq!(bench.batch().await, [3]);
    assert_eq!(asked.await.ok(), Some(Ok(6)));
    bench.tasks.close();
    bench.tasks.wait().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_wait_is_known_behind_the_quarantine() {
    let quarantine = Quarantine::new(NeverBlocked);
    let call = async |requests: Vec<i64>| Ok(Answers::from(requests).after_wait(WAIT));
    let answers = quarantine.run_without(vec![1, 2], &|&row| row, &call).await;
    let found = answers.map(|answers| (answers.waited(), answers.make()));
    assert_eq!(found, Ok((WAIT, vec![Ok(1), Ok(2)])));
}
