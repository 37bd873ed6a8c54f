//! How long requests took: percentiles of several processes' histograms.

use std::collections::BTreeMap;

use presence::Durations;

use crate::view::Percentiles;

/// Requests by the upper limit of their bucket, in microseconds. The last bucket has no limit. Processes of other releases
/// may have other buckets.
#[derive(Clone, Default)]
pub(crate) struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    /// The requests that a process reports now, and did not report `before`.
    pub(crate) fn between(before: &Durations, now: &Durations) -> Self {
        let earlier = Self::of(before);
        let mut new = Self::of(now);
        for (limit, count) in &mut new.0 {
            *count = count.saturating_sub(earlier.0.get(limit).copied().unwrap_or_default());
        }
        new
    }

    fn of(durations: &Durations) -> Self {
        let buckets = durations.buckets.iter();
        // A negative or huge limit of another release saturates.
        let mut counts: BTreeMap<u64, u64> = buckets
            .map(|(limit, count)| ((limit * 1e6) as u64, *count))
            .collect();
        counts.insert(u64::MAX, durations.longer);
        Self(counts)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (limit, count) in &other.0 {
            *self.0.entry(*limit).or_default() += count;
        }
    }

    /// `None` without requests.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            p50: self.quantile(0.5)?,
            p99: self.quantile(0.99)?,
        })
    }

    /// The duration in seconds that this part of all requests did not exceed. Within its bucket, the duration is
    /// interpolated, as Prometheus does.
    fn quantile(&self, part: f64) -> Option<f64> {
        let total: u64 = self.0.values().sum();
        let wanted = part * total as f64;
        let (mut counted, mut lower) = (0.0, 0);
        for (&limit, &count) in &self.0 {
            let count = count as f64;
            if count > 0.0 && counted + count >= wanted {
                // Nothing is known of requests beyond the last limit.
                let upper = if limit == u64::MAX { lower } else { limit };
                let within = (wanted - counted) / count;
                return Some((lower as f64 + (upper - lower) as f64 * within) / 1e6);
            }
            counted += count;
            lower = limit;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(counts: [u64; 3], longer: u64) -> Durations {
        let limits = [0.001, 0.002, 0.004];
        Durations {
            buckets: limits.into_iter().zip(counts).collect(),
            longer,
        }
    }

    fn seconds(histogram: &Histogram) -> Option<(f64, f64)> {
        let found = histogram.percentiles()?;
        Some((found.p50, found.p99))
    }

    #[test]
    fn percentiles_are_of_what_came_since_and_of_all_processes() {
        let before = durations([1000, 0, 0], 7);
        assert_eq!(seconds(&Histogram::between(&before, &before)), None);
        assert_eq!(seconds(&Histogram::default()), None);
        // 100 requests in the bucket from 1 to 2 ms.
        let now = durations([1000, 100, 0], 7);
        let mut all = Histogram::between(&before, &now);
        assert_eq!(seconds(&all), Some((0.0015, 0.00199)));
        // Another process answered 300 requests within 1 ms, and 100 later than the last limit.
        let other = Histogram::between(&Durations::default(), &durations([300, 0, 0], 100));
        all.add(&other);
        let (p50, p99) = seconds(&all).expect("requests");
        assert!((p50 - 0.000_833).abs() < 1e-5, "{p50}");
        assert_eq!(p99, 0.004);
        // A process that was started again reports less than before.
        assert_eq!(seconds(&Histogram::between(&now, &before)), None);
    }
}
