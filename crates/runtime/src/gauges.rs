//! Metrics of every process: the process itself, its build, and its connections to PostgreSQL.

use prometheus::{
    IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    process_collector::ProcessCollector,
    proto::MetricFamily,
    register_int_gauge_vec_with_registry, register_int_gauge_with_registry,
};

/// Shows the process's processor time, memory and descriptors, and which build it is. `name` is the program's name.
pub(crate) fn show_process(name: &str, registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let build = register_int_gauge_vec_with_registry!(
        "flashsale_build_info",
        "Always 1: the labels say which program and which version runs.",
        &["process", "version"],
        registry
    )?;
    build
        .with_label_values(&[name, env!("CARGO_PKG_VERSION")])
        .set(1);
    Ok(())
}

/// Shows the connections of the process's pool, which has at most `max`. `read` returns their number by what they do,
/// whenever Prometheus asks.
pub fn show_pool<const STATES: usize>(
    registry: &Registry,
    (max, read): (
        u32,
        impl Fn() -> [(&'static str, u32); STATES] + Send + Sync + 'static,
    ),
) -> prometheus::Result<()> {
    let limit = register_int_gauge_with_registry!(
        "flashsale_postgres_connections_max",
        "Most connections that the process's shared pool may have.",
        registry
    )?;
    limit.set(max.into());
    let open = Opts::new(
        "flashsale_postgres_connections",
        "Connections to PostgreSQL in the process's shared pool, by what they do.",
    );
    let open = IntGaugeVec::new(open, &["state"])?;
    registry.register(Box::new(Pool { open, read }))
}

struct Pool<F> {
    open: IntGaugeVec,
    read: F,
}

impl<F, const STATES: usize> Collector for Pool<F>
where
    F: Fn() -> [(&'static str, u32); STATES] + Send + Sync,
{
    fn desc(&self) -> Vec<&Desc> {
        self.open.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (state, count) in (self.read)() {
            self.open.with_label_values(&[state]).set(count.into());
        }
        self.open.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_read_whenever_prometheus_asks() -> prometheus::Result<()> {
        let registry = Registry::new();
        let reads = std::sync::atomic::AtomicU32::new(0);
        let count = move || {
            let read = reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            [("busy", read), ("idle", 2)]
        };
        show_pool(&registry, (12, count))?;
        for busy in 0..2 {
            let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather())?;
            assert!(
                text.contains(&format!(r#"connections{{state="busy"}} {busy}"#)),
                "{text}"
            );
            assert!(text.contains(r#"connections{state="idle"} 2"#), "{text}");
            assert!(text.contains("connections_max 12"), "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_process_shows_its_build_and_its_memory() -> prometheus::Result<()> {
        let registry = Registry::new();
        show_process("flashsale-test", &registry)?;
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather())?;
        for series in [
            r#"flashsale_build_info{process="flashsale-test",version=""#,
            "process_resident_memory_bytes ",
            "process_cpu_seconds_total ",
        ] {
            assert!(text.contains(series), "{series}: {text}");
        }
        Ok(())
    }
}
