//! A process beside the API of a [`System`]: the expirer, the relay, or another copy of the API.

use std::ops::Deref;

use super::{Child, Client, System, eventually};

/// Ports without a server. All three processes run without Redis, and a relay is ready without a broker.
pub(crate) const NO_REDIS: (&str, &str) = ("REDIS_URL", "redis://127.0.0.1:1/0");
pub(crate) const NO_RABBITMQ: (&str, &str) = ("AMQP_URL", "amqp://127.0.0.1:1/%2f");

/// Each sweep of an expirer is observed when it is done.
const SWEEPS: &str = "flashsale_expiry_sweep_seconds_count";

/// A process that listens, on the system's database and Redis keys. Also a [`Client`] for its routes.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) child: Child,
    client: Client,
}

impl Deref for Peer {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Peer {
    /// Settings may replace those of the system.
    pub(crate) async fn start(
        system: &System,
        name: &'static str,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut child = system.beside(name, settings);
        let client = Client::new(format!("http://{}", child.address().await), None);
        Self {
            name,
            child,
            client,
        }
    }

    pub(crate) async fn api(system: &System, settings: &[(&str, &str)]) -> Self {
        Self::start(system, "flashsale-api", settings).await
    }

    pub(crate) async fn expirer(system: &System, settings: &[(&str, &str)]) -> Self {
        Self::start(system, "flashsale-expirer", settings).await
    }

    pub(crate) async fn relay(system: &System, amqp_url: &str, settings: &[(&str, &str)]) -> Self {
        let settings = [&[("AMQP_URL", amqp_url)], settings].concat();
        Self::start(system, "flashsale-relay", &settings).await
    }

    /// Waits until a series in its `/metrics` has at least this value.
    pub(crate) async fn counts(&self, series: &str, at_least: f64) {
        eventually(&format!("{series} of {at_least}"), async || {
            (self.metric(series).await >= at_least).then_some(())
        })
        .await;
    }

    /// Waits until an expirer has failed three times more, and swept since.
    pub(crate) async fn fails_again(&self) {
        let series = "flashsale_expiry_errors_total";
        let before = self.metric(series).await;
        self.counts(series, before + 3.0).await;
        self.sweeps().await;
    }

    /// Waits until an expirer has started and ended a whole sweep.
    pub(crate) async fn sweeps(&self) {
        let before = self.metric(SWEEPS).await;
        self.counts(SWEEPS, before + 2.0).await;
    }

    /// Waits until its health shows this state of a dependency. Returns the HTTP status.
    pub(crate) async fn sees(&self, dependency: &str, state: &str) -> u16 {
        eventually(&format!("{dependency} {state}"), async || {
            let ready = self.get("/readyz").await;
            (ready.json()["dependencies"][dependency] == state).then(|| ready.status.as_u16())
        })
        .await
    }

    /// Waits until a relay is ready and its health shows this state of RabbitMQ. It is ready in any state.
    pub(crate) async fn sees_rabbitmq(&self, state: &str) {
        eventually(&format!("rabbitmq {state}"), async || {
            let ready = self.get("/readyz").await;
            let is_seen = ready.json()["dependencies"]["rabbitmq"] == state;
            (ready.status == 200 && is_seen).then_some(())
        })
        .await;
    }

    /// Stops it as an operator would. Returns its log.
    pub(crate) async fn stop(&mut self) -> String {
        self.child.terminate();
        assert!(self.child.ends().await.success(), "{}", self.name);
        self.child.all_it_said().await
    }
}
