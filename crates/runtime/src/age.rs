//! An age gauge that is read periodically and keeps growing while it cannot be read. An alert on the age also fires
//! when the source is down.

use std::{pin::pin, time::Duration};

use prometheus::Gauge;
use tokio::time::{Instant, timeout};

/// How often the gauge grows while a reading is outstanding.
const GROWS_EVERY: Duration = Duration::from_secs(1);

/// An age, shown by a gauge.
pub struct Age {
    gauge: Gauge,
    /// The last reading, and its time.
    seconds: f64,
    read_at: Instant,
}

impl Age {
    /// Starts at 0 s. Until the first successful reading, it grows from the start of the process.
    pub fn shown_by(gauge: Gauge) -> Self {
        gauge.set(0.0);
        Self {
            gauge,
            seconds: 0.0,
            read_at: Instant::now(),
        }
    }

    /// Shows the age in seconds that `reading` returns. After an error, and while `reading` is outstanding, shows the
    /// last known age plus the time since.
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
