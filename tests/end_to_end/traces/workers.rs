//! Traces of the expirer.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{Collector, Span};
use crate::support::{Peer, System};

#[tokio::test]
async fn a_sweep_is_a_trace_of_its_own_with_its_statements() {
    let collector = Collector::start().await;
    let system = System::spawn(&[]).await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    system.backdate(&hold).await;
    let traced = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint)];
    let mut expirer = Peer::expirer(&system, &traced).await;
    expirer
        .counts("flashsale_reservations_expired_total", 1.0)
        .await;
    expirer.stop().await;

    let all = collector.spans();
    let named =
        |name: &str| -> Vec<&Span> { all.iter().filter(|span| span.name == name).collect() };
    let [expire] = named("expire")[..] else {
        panic!("{all:?}");
    };
    assert_eq!(expire.kind, SpanKind::Client);
    assert_eq!(expire.service, "flashsale-expirer");
    let sweeps = named("sweep");
    let [sweep] = sweeps
        .iter()
        .filter(|sweep| sweep.id.1 == expire.parent)
        .collect::<Vec<_>>()[..]
    else {
        panic!("{all:?}");
    };
    assert_eq!((sweep.kind, &*sweep.parent), (SpanKind::Internal, ""));
    assert!(named("due").iter().any(|due| due.parent == sweep.id.1));
}

#[tokio::test]
async fn a_sweep_that_fails_is_an_error() {
    let collector = Collector::start().await;
    let system = System::spawn(&[]).await;
    let spoilt = "alter function due_v2 rename to due_v0";
    let traced = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint)];
    let mut expirer = Peer::expirer(&system, &traced).await;
    expirer.sweeps().await;
    let errors = "flashsale_expiry_errors_total";
    let before = expirer.metric(errors).await;
    system.database.execute(spoilt).await;
    expirer.counts(errors, before + 1.0).await;
    expirer.stop().await;
    let all = collector.spans();
    let failed = |span: &&Span| span.name == "sweep" && span.error.is_some();
    let failed = all.iter().find(failed).expect("no failed sweep");
    assert_eq!(failed.attributes["error.type"], "not_done");
}
