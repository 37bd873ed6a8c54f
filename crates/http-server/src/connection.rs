//! One connection, from its first byte to its end.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use crate::{
    exchange,
    metrics::Closed,
    registry::{Activity, Open, Wait},
    stream::Stream,
};

/// Serves the requests of a connection, until one side closes it or a time limit ends it.
pub(crate) async fn serve(tcp: TcpStream, builder: Builder, router: Router, open: Open) {
    // Answers are small and written in one piece: Nagle's algorithm could only delay them.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let activity = &open.activity;
    let stream = TokioIo::new(Stream::new(tcp, Arc::clone(activity)));
    let service = exchange::service(router, Arc::clone(activity));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut watch = Watch::new(activity);
    let served = poll_fn(|context| {
        loop {
            if let Poll::Ready(served) = connection.as_mut().poll(context) {
                return Poll::Ready(Ok(served));
            }
            match ready!(watch.poll(context)) {
                // Without a request it closes at once.
                Closed::Idle | Closed::Replaced => {
                    activity.ended();
                    connection.as_mut().graceful_shutdown();
                }
                limit => return Poll::Ready(Err(limit)),
            }
        }
    });
    match served.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection failed"
        ),
        Err(limit) => {
            activity.registry.metrics.closed(limit);
            tracing::debug!(?limit, "a connection was closed: the client was too slow");
        }
    }
}

/// The time limits of a connection, with one timer.
struct Watch<'a> {
    activity: &'a Activity,
    wait: Wait,
    progress: u32,
    since: Instant,
    timer: Pin<Box<Sleep>>,
    watched: bool,
}

impl<'a> Watch<'a> {
    fn new(activity: &'a Activity) -> Self {
        Self {
            activity,
            wait: Wait::Nothing,
            progress: 0,
            since: Instant::now(),
            timer: Box::pin(sleep(activity.time_limit(Wait::Idle))),
            watched: false,
        }
    }

    /// Returns when a limit is reached. Call it after the connection was polled.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Closed> {
        let activity = self.activity;
        if !self.watched {
            // Once is enough: a task keeps its waker.
            activity.watched_by(context.waker());
            self.watched = true;
        }
        let (wait, progress) = activity.waits_for();
        if (wait, progress) != (self.wait, self.progress) {
            self.restart(wait, progress);
        }
        if wait == Wait::Nothing {
            return Poll::Pending;
        }
        if wait == Wait::Idle && activity.leaves() {
            return Poll::Ready(Closed::Replaced);
        }
        let deadline = self.since + activity.time_limit(wait);
        // A timer for an earlier time stays. To move it for each request would cost more than to wake up once too
        // early.
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(match wait {
                    Wait::Write => Closed::Write,
                    Wait::Head => Closed::Head,
                    Wait::Idle | Wait::Nothing => {
                        activity.registry.metrics.closed(Closed::Idle);
                        Closed::Idle
                    }
                });
            }
            self.timer.as_mut().reset(deadline);
        }
    }

    fn restart(&mut self, wait: Wait, progress: u32) {
        let was_idle = self.wait == Wait::Idle;
        (self.wait, self.progress) = (wait, progress);
        if wait != Wait::Nothing {
            self.since = Instant::now();
        }
        if was_idle || wait == Wait::Idle {
            let since = (wait == Wait::Idle).then(|| self.since.into_std());
            self.activity.idle_since(since);
        }
    }
}
