//! An age that is read now and then, and grows on while it cannot be read: an alert on it fires, too, where
//! nobody knows how things stand.

use std::{pin::pin, time::Duration};

use prometheus::Gauge;
use tokio::time::{Instant, timeout};

/// How often the gauge grows while an answer is awaited.
const GROWS_EVERY: Duration = Duration::from_secs(1);

pub struct Age {
    gauge: Gauge,
    /// As last read, and when.
    seconds: f64,
    read_at: Instant,
}

impl Age {
    /// Nothing is old when a process starts: what it cannot read grows from then on.
    pub fn shown_by(gauge: Gauge) -> Self {
        gauge.set(0.0);
        Self {
            gauge,
            seconds: 0.0,
            read_at: Instant::now(),
        }
    }

    /// Shows the age in seconds that `reading` answers; where it fails, and as long as it does not answer, the
    /// last one known and the time since.
    pub async fn read<E>(
        &mut self,
        reading: impl Future<Output = Result<f64, E>>,
    ) -> Result<(), E> {
        let mut reading = pin!(reading);
        let answer = loop {
            match timeout(GROWS_EVERY, &mut reading).await {
                Ok(answer) => break answer,
                Err(_) => self.grow(),
            }
        };
        match answer {
            Ok(seconds) => {
                self.seconds = seconds;
                self.read_at = Instant::now();
                self.gauge.set(seconds);
                Ok(())
            }
            Err(error) => {
                self.grow();
                Err(error)
            }
        }
    }

    fn grow(&self) {
        let since = self.read_at.elapsed().as_secs_f64();
        self.gauge.set(self.seconds + since);
    }
}
