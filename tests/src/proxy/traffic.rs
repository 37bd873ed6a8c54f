//! How a proxy treats traffic, and what its connections do about it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

/// How the proxy treats traffic, on new and existing connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traffic {
    Pass,
    /// Existing connections are cut, and new ones closed at once.
    Refuse,
    /// Connections are accepted and stay open, but no data passes in either direction. Data sent meanwhile arrives
    /// when the fault ends.
    Blackhole,
    /// Data from the client passes. Answers are held back until the fault ends.
    Mute,
    /// All data is delayed by this time.
    Delay(Duration),
    /// The broker's acks are delayed by this time. All else passes. Only with [`super::Proxy::to_broker`].
    LateConfirms(Duration),
    /// The broker's acks of every second message are held back until the fault ends. Only with [`super::Proxy::to_broker`].
    SomeConfirms,
}

/// What a proxy does at present. Its connections see each change.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) target: Arc<str>,
    pub(super) speaks_amqp: bool,
    pub(super) traffic: Traffic,
    /// Number of cuts so far.
    pub(super) cuts: u32,
    /// How often all connections were lost so far.
    pub(super) losses: u32,
}

/// Waits until data may pass, and as long as it is delayed. None: the connection is cut, and held-back data never
/// arrives.
pub(super) async fn passed(
    rules: &mut watch::Receiver<Rules>,
    stops: &[Traffic],
) -> Option<Traffic> {
    let passable = |rules: &Rules| !stops.contains(&rules.traffic);
    let traffic = rules.wait_for(passable).await.ok()?.traffic;
    if let Traffic::Delay(delay) = traffic {
        sleep(delay).await;
    }
    (traffic != Traffic::Refuse).then_some(traffic)
}
