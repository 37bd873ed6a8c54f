//! The relay's metrics.

use prometheus::{
    Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, Registry, register_gauge_with_registry,
    register_histogram_with_registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_with_registry,
};

pub(crate) struct Metrics {
    pub(crate) published: IntCounter,
    pub(crate) returned: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) purged: IntCounter,
    pub(crate) reconnects: IntCounter,
    pub(crate) errors: IntCounterVec,
    pub(crate) dead: IntGauge,
    pub(crate) depth: IntGauge,
    pub(crate) oldest_age_seconds: Gauge,
    pub(crate) batch_events: Histogram,
    pub(crate) batch_seconds: Histogram,
    pub(crate) latency_seconds: Histogram,
}

impl Metrics {
    #[expect(clippy::too_many_lines, reason = "one list of metrics")]
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        let errors = register_int_counter_vec_with_registry!(
            "flashsale_relay_errors_total",
            "Failed batches and connections, by the dependency that failed.",
            &["on"],
            to
        )?;
        for on in ["postgres", "rabbitmq"] {
            // Exported from the start: a rate does not count the first error of a series that starts with it.
            errors.with_label_values(&[on]);
        }
        let seconds = [
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
        ];
        Ok(Self {
            published: register_int_counter_with_registry!(
                "flashsale_events_published_total",
                "Events that the broker has acked.",
                to
            )?,
            returned: register_int_counter_with_registry!(
                "flashsale_events_returned_total",
                "Deliveries returned as unroutable: no queue is bound.",
                to
            )?,
            refused: register_int_counter_with_registry!(
                "flashsale_events_refused_total",
                "Deliveries that the broker refused, and events that cannot be parsed.",
                to
            )?,
            purged: register_int_counter_with_registry!(
                "flashsale_events_purged_total",
                "Published events that were deleted.",
                to
            )?,
            reconnects: register_int_counter_with_registry!(
                "flashsale_amqp_reconnects_total",
                "Reconnects to RabbitMQ after a lost connection.",
                to
            )?,
            errors,
            dead: register_int_gauge_with_registry!(
                "flashsale_events_dead",
                "Dead letters: events that are not retried.",
                to
            )?,
            depth: register_int_gauge_with_registry!(
                "flashsale_outbox_depth",
                "Events to be published, counted up to 100,000.",
                to
            )?,
            oldest_age_seconds: register_gauge_with_registry!(
                "flashsale_outbox_oldest_age_seconds",
                "Age of the oldest unpublished event. Keeps growing while it cannot be read.",
                to
            )?,
            batch_events: register_histogram_with_registry!(
                "flashsale_relay_batch_events",
                "Events in one transaction.",
                vec![1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0],
                to
            )?,
            batch_seconds: register_histogram_with_registry!(
                "flashsale_relay_batch_seconds",
                "Duration of one transaction.",
                seconds.to_vec(),
                to
            )?,
            latency_seconds: register_histogram_with_registry!(
                "flashsale_event_publish_latency_seconds",
                "Time from an event's creation (PostgreSQL's clock) to the broker's ack (the relay's clock), without replayed events.",
                [&seconds[..], &[10.0, 60.0, 600.0]].concat(),
                to
            )?,
        })
    }
}
