//! What the handlers share, and how requests reach the verbs.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::ensure;
use futures_util::FutureExt as _;
use inventory::{
    Error, ProductId, ReservationId, Via, cancel, confirm,
    event::{self, Events},
    extend::{self, Extend},
    product::{self, Product},
    reacquire,
    reservation::{self, Refusal, Reservation},
    reserve::{self, Reserve},
};
use runtime::{Process, lock};
use sqlx::PgPool;
use timer::Timer;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trace::Span;

use crate::{
    Problem,
    answer::{Answer, Created},
    books::Books,
    keys::Keys,
    lanes::{Lanes, Limits, NoAnswer, Turn},
    live::Live,
    metrics::Metrics,
    overload::Overload,
    reservations::{Confirm, reserved, shown},
    stuck::{Locks, Stuck, VerbLanes},
    verb::{Decided, Verb, Verdict},
};

/// One for beats, one for checks.
const PULSE_CONNECTIONS: u32 = 2;

/// Settings of the API.
#[derive(clap::Args, Clone)]
pub struct Settings {
    /// How long a hold lasts, in seconds.
    #[arg(long, env = "HOLD_SECONDS", default_value_t = 300,
        value_parser = clap::value_parser!(i32).range(1..=31_536_000))]
    pub hold_seconds: i32,

    /// The longest life of a hold that is extended, from its creation, in seconds.
    #[arg(long, env = "MAX_HOLD_SECONDS", default_value_t = 3600,
        value_parser = clap::value_parser!(i32).range(1..=31_536_000))]
    pub max_hold_seconds: i32,

    #[command(flatten)]
    pub events: event::Args,

    /// The bearer token of the admin routes. Without it they answer only on a loopback address.
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,

    /// A file with the API keys that all other routes require: on each line a name and the SHA-256 of a key, as
    /// the command new-key makes it. Changes count within a second or so. Without it they are open.
    #[arg(long, env = "API_KEYS_FILE")]
    pub api_keys_file: Option<String>,

    /// Most requests in one call of PostgreSQL.
    #[arg(long, env = "BATCH_MAX_REQUESTS", default_value_t = 500,
        value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub batch_max_requests: u16,

    /// Most requests that wait in one lane; further ones are answered 503.
    #[arg(long, env = "LANE_MAX_REQUESTS", default_value_t = 5000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub lane_max_requests: u32,

    /// Longest time that a request waits in a lane before it is answered 503, in milliseconds.
    #[arg(long, env = "LANE_WAIT_MILLISECONDS", default_value_t = 3000,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub lane_wait_milliseconds: u64,

    /// Lanes for reserves; the reserves of one product share one. Fewer lanes make larger batches, which cost less for
    /// each request; more lanes keep more connections of PostgreSQL busy.
    #[arg(long, env = "RESERVE_LANES", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub reserve_lanes: u16,
}

/// Cheap to clone: one for every connection.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

pub struct Shared {
    pub(crate) pool: PgPool,
    /// For beats and for health: an overload must not look like a death.
    pub(crate) pulse: PgPool,
    pub(crate) timer: Timer,
    pub(crate) metrics: Metrics,
    pub(crate) books: Books,
    pub(crate) live: Live,
    pub(crate) hold_seconds: i32,
    pub(crate) events: Events,
    pub(crate) admin_token: Option<String>,
    pub(crate) loopback: bool,
    /// `None`: whoever reaches the API may do all but admin acts.
    pub(crate) keys: Option<Keys>,
    pub(crate) reserve: Verb<Reserve, Created<Reservation>>,
    pub(crate) confirm: Verb<Confirm, Answer<Reservation>>,
    pub(crate) cancel: Verb<ReservationId, Answer<Reservation>>,
    pub(crate) extend: Verb<Extend, Answer<Reservation>>,
    pub(crate) products: Lanes<(), Arc<Vec<Product>>>,
    pub(crate) product: Lanes<ProductId, Option<Product>>,
    pub(crate) reservation: Lanes<ReservationId, Option<Reservation>>,
    calls: Calls,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl AppState {
    /// Starts the lanes. `address` is what the API listens on.
    pub fn new(
        settings: Settings,
        pool: PgPool,
        timer: Timer,
        address: SocketAddr,
        process: &Process,
    ) -> anyhow::Result<Self> {
        // A `.env` file that names the setting without a value means "none", not "the empty token", and a secret that
        // `echo` has made ends in a newline.
        let given = |setting: &Option<String>| {
            let setting = setting.as_deref().map(str::trim);
            setting.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let admin_token = given(&settings.admin_token);
        let can_be_sent = |token: &String| token.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        ensure!(
            admin_token.as_ref().is_none_or(can_be_sent),
            "ADMIN_TOKEN must be of printable ASCII characters: no header could carry it"
        );
        let loopback = address.ip().is_loopback();
        match (&admin_token, loopback) {
            (Some(_), _) => tracing::info!("admin routes require the bearer token"),
            (None, true) => tracing::warn!("no ADMIN_TOKEN: admin routes are open to this machine"),
            (None, false) => tracing::warn!("no ADMIN_TOKEN: admin routes are closed"),
        }
        let metrics = Metrics::new(&process.registry)?;
        let requests = &metrics.client_requests;
        let keys = given(&settings.api_keys_file)
            .map(|path| Keys::follow(path.into(), requests.clone(), process))
            .transpose()?;
        let pulse = inventory::database::beside(&pool, PULSE_CONNECTIONS);
        let live = Live::start(&pool, &pulse, timer.clone(), metrics.clone(), process);
        let books = Books::new(timer.clone(), metrics.clone(), live.feed().clone());
        let events = settings.events.outbox_events;
        let stop = CancellationToken::new();
        let start = Start {
            limits: Limits {
                batch: settings.batch_max_requests.into(),
                depth: settings.lane_max_requests as usize,
                wait: Duration::from_millis(settings.lane_wait_milliseconds),
            },
            hold_seconds: settings.hold_seconds,
            max_hold_seconds: settings.max_hold_seconds,
            events: events.clone(),
            reserve_lanes: settings.reserve_lanes.into(),
            pool: pool.clone(),
            books: books.clone(),
            stuck: Stuck::default(),
            metrics: metrics.clone(),
            tasks: process.tasks.clone(),
            stop: stop.clone(),
        };
        Ok(Self(Arc::new(Shared {
            reserve: start.reserve(),
            confirm: start.confirm(),
            cancel: start.cancel(),
            extend: start.extend(),
            products: start.products(),
            product: start.product(),
            reservation: start.reservation(),
            calls: Calls::on(&pool),
            pool,
            pulse,
            timer,
            metrics,
            books,
            live,
            hold_seconds: settings.hold_seconds,
            events,
            admin_token,
            loopback,
            keys,
            tasks: process.tasks.clone(),
            stop,
        })))
    }

    /// Ends the lanes once they have answered what they hold, and the timers. Called when nobody waits
    /// for an answer any more; a connection that never finished its request may still keep a clone.
    pub(crate) fn close(&self) {
        self.stop.cancel();
        self.timer.close();
    }

    /// Runs database work in a task of its own. A client that hangs up drops its request's
    /// future; dropped with it, a call in flight would leave its connection in an unknown state.
    pub(crate) async fn call<T, Fut>(&self, verb: &'static str, work: Fut) -> Result<T, Problem>
    where
        T: Send + 'static,
        Fut: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let seat = self.calls.seat().await?;
        let work = Span::current().scope(work);
        let work = async move {
            let done = work.await;
            drop(seat);
            done
        };
        match self.tasks.spawn(work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Problem::from(failed(verb, 1, &error))),
            Err(panicked) => {
                tracing::error!(verb, error = %panicked, "a call panicked");
                Err(Problem::Internal)
            }
        }
    }
}

/// Bounds the calls that no lane bounds: whatever they wait for, the lanes have connections.
struct Calls {
    seats: Arc<Semaphore>,
    wait: Duration,
    overload: Mutex<Overload>,
}

impl Calls {
    /// With seats for half of the pool's connections.
    fn on(pool: &PgPool) -> Self {
        let options = pool.options();
        let seats = options.get_max_connections().div_ceil(2);
        Self {
            seats: Arc::new(Semaphore::new(seats as usize)),
            wait: options.get_acquire_timeout(),
            overload: Mutex::new(Overload::new("others")),
        }
    }

    /// One seat, for as long as it is kept.
    async fn seat(&self) -> Result<OwnedSemaphorePermit, NoAnswer> {
        let seat = timeout(self.wait, Arc::clone(&self.seats).acquire_owned()).await;
        let mut overload = lock(&self.overload);
        overload.settle();
        // Nobody closes the semaphore.
        seat.ok()
            .and_then(Result::ok)
            .ok_or_else(|| overload.refused())
    }
}

/// Logs a failed call, once, at the boundary where it becomes an answer to so many requests.
fn failed(verb: &'static str, requests: usize, error: &Error) -> NoAnswer {
    let cause = error.cause();
    tracing::warn!(verb, requests, cause, "{error}");
    Span::current().failed(&cause);
    NoAnswer::from(error)
}

/// What the lanes' verbs work with.
pub(crate) struct Start {
    limits: Limits,
    hold_seconds: i32,
    max_hold_seconds: i32,
    events: Events,
    reserve_lanes: usize,
    pool: PgPool,
    pub(crate) books: Books,
    stuck: Stuck,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Start {
    fn reserve(&self) -> Verb<Reserve, Created<Reservation>> {
        let (events, hold_seconds) = (self.events.clone(), self.hold_seconds);
        let count = self.reserve_lanes;
        Verb::start(
            self,
            "reserve",
            count,
            reserved,
            move |via, requests, turn| {
                decide_reserves(via, requests, turn, hold_seconds, events.clone()).boxed()
            },
        )
    }

    fn confirm(&self) -> Verb<Confirm, Answer<Reservation>> {
        let events = self.events.clone();
        Verb::start(self, "confirm", 1, shown, move |via, requests, _| {
            decide_confirms(via, requests, events.clone()).boxed()
        })
    }

    fn cancel(&self) -> Verb<ReservationId, Answer<Reservation>> {
        let events = self.events.clone();
        Verb::start(self, "cancel", 1, shown, move |via, ids, _| {
            decide_cancels(via, ids, events.clone()).boxed()
        })
    }

    fn extend(&self) -> Verb<Extend, Answer<Reservation>> {
        let max_hold_seconds = self.max_hold_seconds;
        Verb::start(self, "extend", 1, shown, move |via, requests, _| {
            decide_extends(via, requests, max_hold_seconds).boxed()
        })
    }

    fn products(&self) -> Lanes<(), Arc<Vec<Product>>> {
        self.lanes(
            "list_products",
            1,
            move |pool, requests: Vec<()>, _| async move {
                let products = Arc::new(product::list(&pool).await?);
                Ok(vec![products; requests.len()])
            },
        )
    }

    fn product(&self) -> Lanes<ProductId, Option<Product>> {
        self.lanes(
            "get_product",
            1,
            move |pool, ids: Vec<ProductId>, _| async move { product::get(&pool, &ids).await },
        )
    }

    fn reservation(&self) -> Lanes<ReservationId, Option<Reservation>> {
        self.lanes(
            "get_reservation",
            1,
            move |pool, ids: Vec<ReservationId>, _| async move { reservation::get(&pool, &ids).await },
        )
    }

    /// Lanes to a verb, past the products that somebody keeps locked.
    pub(crate) fn verb_lanes<Q, A, F, Fut>(
        &self,
        verb: &'static str,
        count: usize,
        call: F,
    ) -> VerbLanes<Q, A>
    where
        Q: Locks + Clone + Send + Sync + 'static,
        A: Send + 'static,
        F: Fn(PgPool, Vec<Q>, Turn<Q>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<A>, Error>> + Send + 'static,
    {
        let stuck = self.stuck.clone();
        self.lanes(verb, count, move |pool, requests, turn| {
            let (stuck, call) = (stuck.clone(), call.clone());
            async move {
                let call = |pool, requests| call(pool, requests, turn.clone());
                let has_latecomers = || turn.has_latecomers();
                stuck.around(&pool, requests, &call, has_latecomers).await
            }
        })
    }

    fn lanes<Q, A, F, Fut>(&self, verb: &'static str, count: usize, call: F) -> Lanes<Q, A>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Fn(PgPool, Vec<Q>, Turn<Q>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Vec<A>, Error>> + Send + 'static,
    {
        let pool = self.pool.clone();
        let (size, duration) = self.metrics.batches(verb);
        Lanes::start(
            verb,
            count,
            self.limits,
            &self.tasks,
            &self.stop,
            move |requests: Vec<Q>, turn| {
                let count = requests.len();
                let size = size.clone();
                let timed = duration.start_timer();
                let call = call(pool.clone(), requests, turn);
                async move {
                    let answers = call.await;
                    timed.observe_duration();
                    // With those that it took along.
                    size.observe(answers.as_ref().map_or(count, Vec::len) as f64);
                    answers.map_err(|error| failed(verb, count, &error))
                }
            },
        )
    }
}

async fn decide_reserves(
    via: Via<'_>,
    mut requests: Vec<Reserve>,
    turn: Option<Turn<Reserve>>,
    hold_seconds: i32,
    events: Events,
) -> Decided {
    let batch = match (via, turn) {
        (Via::Pool(pool), Some(turn)) => {
            let latecomers = |products: &HashSet<ProductId>| {
                turn.latecomers(&|late: &Reserve| products.contains(&late.product_id))
            };
            let (requests, waits) = (&mut requests, turn.waits());
            reserve::reserve_in_turn(pool, requests, hold_seconds, &events, waits, latecomers)
                .await?
        }
        (via, _) => reserve::reserve(via, &requests, hold_seconds, &events).await?,
    };
    let book = move |books: &Books, holds: &[Verdict]| {
        books.reserved(holds.iter().flatten(), batch.expired);
    };
    Ok((batch.answers, Box::new(book)))
}

async fn decide_confirms(mut via: Via<'_>, requests: Vec<Confirm>, events: Events) -> Decided {
    let ids: Vec<_> = requests.iter().map(|request| request.id).collect();
    let mut batch = confirm::confirm(via.again(), &ids, &events).await?;
    let (mut reacquired, mut expired) = (0, 0);
    for (request, answer) in requests.iter().zip(&mut batch.answers) {
        if request.reacquire && matches!(answer, Err(Refusal::ReservationExpired)) {
            let late = reacquire::reacquire(via.again(), request.id, &events).await?;
            reacquired += late.changed;
            expired += late.expired;
            late.answers.into_iter().for_each(|late| *answer = late);
        }
    }
    let book = move |books: &Books, answers: &[Verdict]| {
        books.confirmed(answers, batch.changed);
        if reacquired + expired > 0 {
            books.reacquired(reacquired, expired);
        }
    };
    Ok((batch.answers, Box::new(book)))
}

async fn decide_cancels(via: Via<'_>, ids: Vec<ReservationId>, events: Events) -> Decided {
    let batch = cancel::cancel(via, &ids, &events).await?;
    let book = move |books: &Books, answers: &[Verdict]| books.canceled(answers, batch.changed);
    Ok((batch.answers, Box::new(book)))
}

async fn decide_extends(via: Via<'_>, requests: Vec<Extend>, max_hold_seconds: i32) -> Decided {
    let batch = extend::extend(via, &requests, max_hold_seconds).await?;
    Ok((batch.answers, Box::new(Books::extended)))
}
