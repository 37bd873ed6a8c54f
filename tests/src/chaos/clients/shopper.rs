//! What all clients share: they ask, repeat requests, and race each other.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::chaos::{
    history::{Answer, Request},
    recent::Recent,
    wire::Client,
};

/// Few, so that clients often use the same user and product.
pub(super) const USERS: i64 = 120;

/// Number of keyed requests that a client remembers, to repeat them long after their answer.
const REMEMBERED: usize = 8;

/// One client. How it asks, repeats requests and gives them keys is the same for all that clients do.
pub(super) struct Shopper {
    pub(super) client: Client,
    /// Number of fronts that it chooses from.
    pub(super) apis: usize,
    pub(super) rng: Rng,
    pub(super) recent: Arc<Recent>,
    /// Number of names created so far.
    named: u32,
    /// Its latest keyed requests.
    keyed: VecDeque<(Request, String)>,
}

impl Shopper {
    pub(super) fn new(client: Client, apis: usize, rng: Rng, recent: Arc<Recent>) -> Self {
        Self {
            client,
            apis,
            rng,
            recent,
            named: 0,
            keyed: VecDeque::new(),
        }
    }

    /// A unique name.
    pub(super) fn own_name(&mut self) -> String {
        self.named += 1;
        format!("{}-{}", self.client.number, self.named)
    }

    /// Sends both requests at the same time, each to a different API.
    pub(super) async fn race(&mut self, one: Request, other: Request) {
        let first = self.rng.usize(..self.apis);
        let (key, other_key) = (self.key_for(&one), self.key_for(&other));
        tokio::join!(
            self.client.ask(first, one, key.as_deref()),
            self.client
                .ask((first + 1) % self.apis, other, other_key.as_deref())
        );
    }

    pub(super) async fn ask_once(&mut self, request: Request, key: Option<&str>) -> Answer {
        let api = self.rng.usize(..self.apis);
        self.client.ask(api, request, key).await
    }

    /// Retries while the outcome is unknown, as a shop's backend does, for a limited time.
    pub(super) async fn ask(&mut self, request: Request) -> Answer {
        match self.key_for(&request) {
            Some(key) => self.ask_with(request, key).await,
            None => self.ask_until_known(&request, None).await,
        }
    }

    /// Retries a request that is not idempotent only with a key. Without a key it is sent once.
    pub(super) async fn ask_if_safe(&mut self, request: Request) -> Answer {
        match self.key_for(&request) {
            Some(key) => self.ask_with(request, key).await,
            None => self.ask_once(request, None).await,
        }
    }

    /// Gives a key to every third request that supports keys.
    pub(super) fn key_for(&mut self, request: &Request) -> Option<String> {
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
    pub(super) async fn ask_an_old_one(&mut self) {
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
