//! The counters of a server: answers by status and, if it has them, batches.

use anyhow::Context as _;
use serde::Serialize;

use crate::case::Wanted;

/// The counters of reserves and of reads of a product since the server's start. A load is of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Metrics {
    pub(crate) answers: Answers,
    batches: f64,
    batch_requests: f64,
    batch_seconds: f64,
}

/// Answers to `POST /reservations` and `GET /products/{id}`, by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Answers {
    #[serde(rename = "200")]
    pub(crate) found: u64,
    #[serde(rename = "201")]
    pub(crate) created: u64,
    #[serde(rename = "409")]
    pub(crate) conflict: u64,
    #[serde(rename = "503")]
    pub(crate) unavailable: u64,
    pub(crate) other: u64,
}

/// The batches of a load: the effect of group commit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Batches {
    pub(crate) count: u64,
    pub(crate) mean_requests: f64,
    pub(crate) mean_ms: f64,
}

/// A counter without labels, from the Prometheus text of `/metrics`.
pub(crate) fn counter(text: &str, name: &str) -> anyhow::Result<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value
        .and_then(|value| value.parse().ok())
        .with_context(|| format!("there is no counter {name}"))
}

impl Metrics {
    /// Reads the Prometheus text of `/metrics`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let value: f64 = value.parse().unwrap_or(0.0);
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let is_batch =
                labels.contains(r#"verb="reserve""#) || labels.contains(r#"verb="get_product""#);
            match name {
                "http_requests_total"
                    if labels.contains(r#"method="POST",route="/reservations""#)
                        || labels.contains(r#"method="GET",route="/products/{id}""#) =>
                {
                    // Counters are whole numbers.
                    metrics.answers.count(labels, value as u64);
                }
                "flashsale_batch_requests_count" if is_batch => metrics.batches += value,
                "flashsale_batch_requests_sum" if is_batch => metrics.batch_requests += value,
                "flashsale_batch_duration_seconds_sum" if is_batch => {
                    metrics.batch_seconds += value;
                }
                _ => {}
            }
        }
        metrics
    }

    /// Adds the counters of another process.
    pub(crate) fn add(&mut self, other: &Self) {
        let (all, more) = (&mut self.answers, &other.answers);
        all.found += more.found;
        all.created += more.created;
        all.conflict += more.conflict;
        all.unavailable += more.unavailable;
        all.other += more.other;
        self.batches += other.batches;
        self.batch_requests += other.batch_requests;
        self.batch_seconds += other.batch_seconds;
    }

    pub(crate) fn answers_since(&self, before: &Self) -> Answers {
        let (now, then) = (&self.answers, &before.answers);
        Answers {
            found: now.found - then.found,
            created: now.created - then.created,
            conflict: now.conflict - then.conflict,
            unavailable: now.unavailable - then.unavailable,
            other: now.other - then.other,
        }
    }

    pub(crate) fn batches_since(&self, before: &Self) -> Option<Batches> {
        let count = self.batches - before.batches;
        (count > 0.0).then(|| Batches {
            count: count as u64,
            mean_requests: (self.batch_requests - before.batch_requests) / count,
            mean_ms: (self.batch_seconds - before.batch_seconds) / count * 1e3,
        })
    }
}

impl Answers {
    /// The expected answers.
    pub(crate) fn of(&self, wanted: Wanted) -> u64 {
        match wanted {
            Wanted::Created => self.created,
            Wanted::Conflict => self.conflict,
            Wanted::Found => self.found,
        }
    }

    /// Answers that are not the expected one.
    pub(crate) fn apart(&self, wanted: Wanted) -> u64 {
        let all = self.found + self.created + self.conflict + self.unavailable + self.other;
        all - self.of(wanted)
    }

    fn count(&mut self, labels: &str, count: u64) {
        let status = labels
            .split_once(r#"status=""#)
            .and_then(|(_, rest)| rest.split_once('"'))
            .map_or("", |(status, _)| status);
        match status {
            "200" => self.found += count,
            "201" => self.created += count,
            "409" => self.conflict += count,
            "503" => self.unavailable += count,
            _ => self.other += count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# TYPE http_requests_total counter
http_requests_total{method="GET",route="/reservations",status="200"} 9
http_requests_total{method="POST",route="/reservations",status="201"} 700
http_requests_total{method="POST",route="/reservations",status="409"} 30
http_requests_total{method="POST",route="/reservations",status="503"} 2
http_requests_total{method="POST",route="/reservations",status="422"} 1
http_requests_total{method="POST",route="/products",status="201"} 5
http_requests_total{method="GET",route="/products/{id}",status="200"} 40
http_requests_total{method="GET",route="/products/{id}",status="503"} 3
flashsale_batch_requests_bucket{verb="reserve",le="1"} 3
flashsale_batch_requests_sum{verb="reserve"} 733
flashsale_batch_requests_count{verb="reserve"} 10
flashsale_batch_requests_count{verb="confirm"} 4
flashsale_batch_requests_sum{verb="get_product"} 67
flashsale_batch_requests_count{verb="get_product"} 10
flashsale_batch_duration_seconds_sum{verb="reserve"} 0.05
"#;

    #[test]
    fn answers_are_counted_by_status_and_batches_averaged() {
        let metrics = Metrics::parse(TEXT);
        let none = Metrics::default();
        let expected = Answers {
            found: 40,
            created: 700,
            conflict: 30,
            unavailable: 5,
            other: 1,
        };
        assert_eq!(metrics.answers_since(&none), expected);
        assert_eq!(
            (expected.of(Wanted::Found), expected.apart(Wanted::Found)),
            (40, 736)
        );
        let batches = metrics.batches_since(&none).expect("batches");
        assert_eq!(batches.count, 20);
        assert!((batches.mean_requests - 40.0).abs() < 1e-9);
        assert!((batches.mean_ms - 2.5).abs() < 1e-9);
        assert_eq!(metrics.batches_since(&metrics), None);
    }

    #[test]
    fn the_counts_of_copies_add_up() {
        let one = Metrics::parse(TEXT);
        let mut both = one;
        both.add(&one);
        let answers = both.answers_since(&one);
        assert_eq!(answers, one.answers_since(&Metrics::default()));
        let batches = both.batches_since(&Metrics::default()).expect("batches");
        assert_eq!(batches.count, 40);
        assert!((batches.mean_requests - 40.0).abs() < 1e-9);
    }
}
