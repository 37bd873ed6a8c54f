//! Delays between attempts. Only this module uses the `backoff` crate (see `deny.toml`).

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Jittered delays that grow from 50 ms to a maximum and never end.
///
/// The default of `backoff` stops after 15 minutes. An outage may last longer.
pub struct Delays(ExponentialBackoff);

impl Delays {
    /// Delays that grow up to `max`.
    pub fn up_to(max: Duration) -> Self {
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(Duration::from_millis(50))
                .with_max_interval(max)
                .with_max_elapsed_time(None)
                .build(),
        )
    }

    /// The delay before the next attempt, within ±50 % of the current interval.
    pub fn next_delay(&mut self) -> Duration {
        let max = self.0.max_interval;
        self.0.next_backoff().unwrap_or(max)
    }

    /// Call this after a success: the next failure starts with a short delay again.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_stay_bounded_and_start_again() {
        let max = Duration::from_secs(2);
        let mut delays = Delays::up_to(max);
        let series: Vec<Duration> = (0..200).map(|_| delays.next_delay()).collect();
        assert!(
            series[0] <= Duration::from_millis(75),
            "first: {:?}",
            series[0]
        );
        assert!(series.iter().all(|delay| *delay <= max.mul_f32(1.5)));
        assert!(series[150..].iter().all(|delay| *delay >= max.mul_f32(0.5)));
        delays.reset();
        assert!(delays.next_delay() <= Duration::from_millis(75));
    }
}
