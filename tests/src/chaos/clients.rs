//! Simulated shoppers: they reserve, cancel, race each other and their deadlines, and retry.

mod line;
mod shop;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    history::{Act, Answer, Hold, Request},
    journal::{Journal, lock, now},
    wire::{Client, UNITS},
    world::Access,
};

const CLIENTS: usize = 16;

/// Few, so that clients often use the same user and product.
const USERS: i64 = 120;

/// Number of keyed requests that a client remembers, to repeat them long after their answer.
const REMEMBERED: usize = 8;

/// Number of products on sale at the same time.
const SALES: usize = 4;

/// State that all clients share: the products on sale, and holds that other clients may act on.
#[derive(Default)]
pub(crate) struct Recent {
    sales: Mutex<VecDeque<i64>>,
    holds: Mutex<VecDeque<i64>>,
    entries: Mutex<VecDeque<i64>>,
}

impl Recent {
    fn remember(&self, hold: i64) {
        remember(&self.holds, hold);
    }

    /// A few of the latest holds.
    pub(crate) fn some(&self) -> Vec<i64> {
        lock(&self.holds)
            .iter()
            .rev()
            .take(20)
            .step_by(2)
            .copied()
            .collect()
    }

    fn any(&self, rng: &mut Rng) -> Option<i64> {
        rng.choice(lock(&self.holds).iter().copied())
    }

    fn entry(&self, rng: &mut Rng) -> Option<i64> {
        rng.choice(lock(&self.entries).iter().copied())
    }

    fn sale(&self, rng: &mut Rng) -> Option<i64> {
        rng.choice(lock(&self.sales).iter().copied())
    }
}

fn remember(latest: &Mutex<VecDeque<i64>>, id: i64) {
    let mut latest = lock(latest);
    latest.push_back(id);
    if latest.len() > 40 {
        latest.pop_front();
    }
}

/// Starts the clients. When told to stop, each finishes its current work.
pub(crate) fn start(
    seed: u64,
    access: &Arc<Access>,
    journal: &Arc<Journal>,
    recent: &Arc<Recent>,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<()>> {
    let mut clients = JoinSet::new();
    for number in 0..=CLIENTS {
        let client = Client::new(number, access.clone(), journal.clone())?;
        let rng = Rng::with_seed(seed.wrapping_mul(1000).wrapping_add(number as u64));
        let shopper = Shopper {
            client,
            apis: access.client_fronts,
            sale: access.sale,
            rng,
            recent: recent.clone(),
            named: 0,
            keyed: VecDeque::new(),
        };
        let (journal, stop) = (journal.clone(), stop.clone());
        if number == CLIENTS {
            clients.spawn(shopper.sell(journal, stop));
        } else {
            clients.spawn(shopper.shop(stop));
        }
    }
    Ok(clients)
}

struct Shopper {
    client: Client,
    /// Number of fronts that it chooses from.
    apis: usize,
    /// Duration of each sale.
    sale: Duration,
    rng: Rng,
    recent: Arc<Recent>,
    /// Number of names created so far.
    named: u32,
    /// Its latest keyed requests.
    keyed: VecDeque<(Request, String)>,
}

impl Shopper {
    /// Opens a new sale whenever an old one ends.
    async fn sell(mut self, journal: Arc<Journal>, stop: CancellationToken) {
        let pause = self.sale / SALES as u32;
        while !stop.is_cancelled() {
            let request = Request::CreateProduct(self.own_name());
            if let Answer::Product(product) = self.ask_if_safe(request).await {
                journal.product(product.id, UNITS);
                let mut sales = lock(&self.recent.sales);
                sales.push_back(product.id);
                if sales.len() > SALES {
                    sales.pop_front();
                }
            }
            stop.run_until_cancelled(sleep(pause)).await;
        }
    }

    async fn shop(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.rng.u8(..40) {
                0 | 1 => self.look().await,
                2 | 3 => self.meddle().await,
                4 | 5 => self.adjust_stock().await,
                11 => self.ask_an_old_one().await,
                14 | 15 => self.look_at_a_line().await,
                12 | 13 => self.change_product().await,
                6..11 => self.buy_batch().await,
                _ => self.buy().await,
            }
            let pause = Duration::from_millis(self.rng.u64(5..60));
            stop.run_until_cancelled(sleep(pause)).await;
        }
    }

    async fn look(&mut self) {
        let request = match self.rng.u8(..10) {
            0 => Request::Audit,
            1 => Request::SyncExpired,
            2 | 3 => Request::ListOfUser(self.rng.i64(1..=USERS)),
            4 | 5 => match self.recent.sale(&mut self.rng) {
                Some(product) => Request::Product(product),
                None => return,
            },
            _ => match self.recent.any(&mut self.rng) {
                Some(hold) => Request::Get(hold),
                None => return,
            },
        };
        self.ask_once(request, None).await;
    }

    /// Acts on a hold of another client.
    async fn meddle(&mut self) {
        if let Some(hold) = self.recent.any(&mut self.rng) {
            let request = match self.rng.u8(..6) {
                0 | 1 => Request::Confirm(hold),
                2 => Request::Cancel(hold),
                3 => Request::Extend(hold, self.rng.i64(1..9)),
                4 => Request::Reacquire(hold),
                _ => Request::Return(hold),
            };
            let key = self.key_for(&request);
            self.ask_once(request, key.as_deref()).await;
        }
    }

    /// A unique name.
    fn own_name(&mut self) -> String {
        self.named += 1;
        format!("{}-{}", self.client.number, self.named)
    }

    async fn buy_batch(&mut self) {
        let mut products: Vec<i64> = (0..3)
            .filter_map(|_| self.recent.sale(&mut self.rng))
            .collect();
        products.sort_unstable();
        products.dedup();
        if products.is_empty() {
            return sleep(Duration::from_millis(100)).await;
        }
        self.rng.shuffle(&mut products);
        let items = products.into_iter();
        let request = Request::ReserveBatch {
            items: items.map(|id| (id, self.rng.i64(1..4))).collect(),
            user: self.rng.i64(1..=USERS),
            reference: self.own_name(),
        };
        if let Answer::Holds(holds) = self.ask(request).await {
            for hold in &holds {
                self.recent.remember(hold.id);
            }
            match self.rng.bool() {
                true => self.decide_batch(&holds).await,
                false => {
                    for hold in holds {
                        self.decide(hold).await;
                    }
                }
            }
        }
    }

    /// Acts on a whole order, sometimes on a part of it first or at the same time.
    async fn decide_batch(&mut self, holds: &[Hold]) {
        let mut ids: Vec<i64> = holds.iter().map(|hold| hold.id).collect();
        self.rng.shuffle(&mut ids);
        let (first, seconds) = (ids[0], self.rng.i64(4..9));
        let all = |act| Request::Order(act, ids.clone());
        let (confirm, cancel) = (all(Act::Confirm), all(Act::Cancel));
        match self.rng.u8(..10) {
            0..3 => {
                self.ask(confirm).await;
            }
            3 => {
                self.ask(cancel).await;
            }
            4 => self.race(confirm, cancel).await,
            5 => self.race(confirm, Request::Cancel(first)).await,
            6 => {
                self.ask(Request::Confirm(first)).await;
                self.race(cancel, confirm).await;
            }
            7 => {
                self.ask(all(Act::Extend(seconds))).await;
                self.ask(confirm).await;
            }
            8 => {
                self.wait_for_deadline(&holds[0]).await;
                self.race(all(Act::Reacquire), all(Act::Extend(seconds)))
                    .await;
            }
            // The order is left to expire.
            _ => {}
        }
    }

    async fn buy(&mut self) {
        let Some(product) = self.recent.sale(&mut self.rng) else {
            return sleep(Duration::from_millis(100)).await;
        };
        let user = self.rng.i64(1..=USERS);
        let quantity = self.rng.i64(1..4);
        let request = Request::Reserve {
            product,
            user,
            quantity,
            reference: None,
        };
        match self.ask(request).await {
            Answer::Hold(hold) => {
                self.recent.remember(hold.id);
                self.decide(hold).await;
            }
            // Holds that may exist because an answer was lost are included.
            Answer::Refused {
                standing: Some(hold),
                ..
            } if self.rng.u8(..4) == 0 => {
                self.ask(Request::Get(hold)).await;
                self.ask(Request::Cancel(hold)).await;
            }
            Answer::Refused { code, .. } if code == "sold_out" && self.rng.bool() => {
                self.wait_in_line(product, user, quantity).await;
            }
            _ => {}
        }
    }

    async fn decide(&mut self, hold: Hold) {
        let (confirm, cancel) = (Request::Confirm(hold.id), Request::Cancel(hold.id));
        match self.rng.u8(..20) {
            0..5 => {
                self.ask(confirm).await;
            }
            5 => {
                self.ask(confirm).await;
                self.ask(Request::Return(hold.id)).await;
            }
            6 => {
                self.ask(confirm).await;
                self.race(Request::Return(hold.id), Request::Return(hold.id))
                    .await;
            }
            7 => {
                let seconds = self.rng.i64(1..9);
                self.race(confirm, Request::Extend(hold.id, seconds)).await;
            }
            8 => {
                let seconds = self.rng.i64(4..9);
                if let Answer::Hold(longer) = self.ask(Request::Extend(hold.id, seconds)).await {
                    self.wait_for_deadline(&longer).await;
                    self.ask(confirm).await;
                }
            }
            9 => {
                self.wait_for_deadline(&hold).await;
                self.race(Request::Extend(hold.id, 9), Request::Reacquire(hold.id))
                    .await;
            }
            10 => {
                self.wait_for_deadline(&hold).await;
                self.race(Request::Reacquire(hold.id), Request::Reacquire(hold.id))
                    .await;
            }
            11..13 => {
                self.ask(cancel).await;
            }
            13 => self.race(confirm, cancel).await,
            14 => self.race(confirm.clone(), confirm).await,
            15 => self.race(cancel.clone(), cancel).await,
            16 => {
                self.wait_for_deadline(&hold).await;
                self.ask(confirm).await;
            }
            // The hold is left to expire.
            _ => {}
        }
    }

    /// Waits until shortly before or after the deadline.
    async fn wait_for_deadline(&mut self, hold: &Hold) {
        let slack = self.rng.i64(-30_000..30_000);
        let until = u64::try_from(hold.expires - now() + slack).unwrap_or(0);
        sleep(Duration::from_micros(until)).await;
    }

    /// Sends both requests at the same time, each to a different API.
    async fn race(&mut self, one: Request, other: Request) {
        let first = self.rng.usize(..self.apis);
        let (key, other_key) = (self.key_for(&one), self.key_for(&other));
        tokio::join!(
            self.client.ask(first, one, key.as_deref()),
            self.client
                .ask((first + 1) % self.apis, other, other_key.as_deref())
        );
    }

    async fn ask_once(&mut self, request: Request, key: Option<&str>) -> Answer {
        let api = self.rng.usize(..self.apis);
        self.client.ask(api, request, key).await
    }

    /// Retries while the outcome is unknown, as a shop's backend does, for a limited time.
    async fn ask(&mut self, request: Request) -> Answer {
        match self.key_for(&request) {
            Some(key) => self.ask_with(request, key).await,
            None => self.ask_until_known(&request, None).await,
        }
    }

    /// Retries a request that is not idempotent only with a key. Without a key it is sent once.
    async fn ask_if_safe(&mut self, request: Request) -> Answer {
        match self.key_for(&request) {
            Some(key) => self.ask_with(request, key).await,
            None => self.ask_once(request, None).await,
        }
    }

    /// Gives a key to every third request that supports keys.
    fn key_for(&mut self, request: &Request) -> Option<String> {
        (request.takes_a_key() && self.rng.u8(..3) == 0).then(|| self.own_name())
    }

    /// Sends a keyed request, sometimes twice at the same time or again after the answer.
    async fn ask_with(&mut self, mut request: Request, key: String) -> Answer {
        if let Request::Reserve { reference, .. } = &mut request {
            *reference = Some(self.own_name());
        }
        self.keyed.push_back((request.clone(), key.clone()));
        if self.keyed.len() > REMEMBERED {
            self.keyed.pop_front();
        }
        let mut answer = if self.rng.u8(..6) == 0 {
            let first = self.rng.usize(..self.apis);
            let ask = |api| self.client.ask(api, request.clone(), Some(&key));
            let (one, other) = tokio::join!(ask(first), ask((first + 1) % self.apis));
            if known(&one) { one } else { other }
        } else {
            Answer::InUse
        };
        if !known(&answer) {
            answer = self.ask_until_known(&request, Some(&key)).await;
        }
        if known(&answer) && self.rng.u8(..6) == 0 {
            self.ask_once(request, Some(&key)).await;
        }
        answer
    }

    /// Repeats an old keyed request, whose answer may no longer match the current state.
    async fn ask_an_old_one(&mut self) {
        if let Some((request, key)) = self.rng.choice(self.keyed.iter().cloned()) {
            self.ask_once(request, Some(&key)).await;
        }
    }

    async fn ask_until_known(&mut self, request: &Request, key: Option<&str>) -> Answer {
        let began = Instant::now();
        loop {
            let answer = self.ask_once(request.clone(), key).await;
            let give_up = began.elapsed() > Duration::from_secs(10) || self.rng.u8(..4) == 0;
            if known(&answer) || give_up {
                return answer;
            }
            sleep(Duration::from_millis(self.rng.u64(20..200))).await;
        }
    }
}

/// Whether the outcome is known, so that no retry is needed.
fn known(answer: &Answer) -> bool {
    !matches!(
        answer,
        Answer::Unknown(_) | Answer::Overloaded | Answer::InUse
    )
}

/// Reserves every free unit of each product, and one more. Each round has its own users.
pub(crate) async fn buy_out(
    free: &[(i64, i64)],
    round: i64,
    access: &Arc<Access>,
    journal: &Arc<Journal>,
) -> anyhow::Result<()> {
    let mut buyers = JoinSet::new();
    for number in 0..4 {
        let client = Client::new(CLIENTS + 1 + number, access.clone(), journal.clone())?;
        let apis = access.client_fronts;
        let mine: Vec<(i64, i64)> = free.iter().copied().skip(number).step_by(4).collect();
        buyers.spawn(async move {
            for (product, units) in mine {
                let first = USERS + 1 + round * 2 * UNITS;
                for user in first..=first + units {
                    let request = Request::Reserve {
                        product,
                        user,
                        quantity: 1,
                        reference: None,
                    };
                    client.ask(user as usize % apis, request, None).await;
                }
            }
        });
    }
    while let Some(bought) = buyers.join_next().await {
        bought?;
    }
    Ok(())
}
