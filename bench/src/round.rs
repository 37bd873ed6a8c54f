//! The result of one round of one side.

use serde::Serialize;

use crate::{
    case::{Figure, Wanted},
    load::Seen,
    metrics::{Answers, Batches},
    stats::Latency,
};

/// The result of one round of one side.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Round {
    /// Units of work: expected answers, events, or holds.
    pub(crate) wanted: u64,
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) latency: Option<Latency>,
    /// Latency of requests for a quiet product beside the loaded one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quiet: Option<Latency>,
    pub(crate) cpu_seconds: Cpu,
    #[serde(flatten)]
    pub(crate) load: Option<Load>,
}

/// CPU time of the work, by process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cpu {
    /// Of the processes that were started for the round.
    pub(crate) server: Option<f64>,
    /// Of the primary. In production a standby is on another machine, so its time is not counted.
    pub(crate) postgres: Option<f64>,
    pub(crate) redis: Option<f64>,
    pub(crate) rabbitmq: Option<f64>,
    pub(crate) wrk: Option<f64>,
}

/// Results of a load, by wrk and by the server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// All answers, as counted by the server.
    pub(crate) answers: Answers,
    pub(crate) wrk: Seen,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batches: Option<Batches>,
    /// Unexpected answers.
    pub(crate) apart: u64,
}

/// A load, after the counts of wrk and the server were compared.
pub(crate) struct Timed {
    pub(crate) seen: Seen,
    pub(crate) cpu_seconds: Cpu,
    pub(crate) answers: Answers,
    pub(crate) batches: Option<Batches>,
    /// Expected answers as seen by wrk, and those that it may have missed.
    pub(crate) wanted: u64,
    pub(crate) unseen: u64,
}

impl Round {
    /// `None` if the round has no such figure.
    pub(crate) fn figure(&self, figure: Figure) -> Option<f64> {
        let microseconds = |seconds: f64| seconds * 1e6 / self.wanted as f64;
        match figure {
            Figure::PerSecond(_) => Some(self.wanted as f64 / self.seconds),
            Figure::P50 => Some(self.latency?.p50_ms),
            Figure::P99 => Some(self.latency?.p99_ms),
            Figure::QuietP99 => Some(self.quiet?.p99_ms),
            Figure::Seconds => Some(self.seconds),
            Figure::PostgresMicroseconds => self.cpu_seconds.postgres.map(microseconds),
            Figure::ProcessorMicroseconds => self.cpu_seconds.total().map(microseconds),
        }
    }
}

impl Timed {
    pub(crate) fn round(self, wanted: Wanted) -> Round {
        Round {
            wanted: self.wanted,
            seconds: self.seen.seconds,
            latency: Some(self.seen.latency),
            quiet: None,
            cpu_seconds: self.cpu_seconds,
            load: Some(Load {
                apart: self.answers.apart(wanted),
                answers: self.answers,
                batches: self.batches,
                wrk: self.seen,
            }),
        }
    }
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        let used = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
        Self {
            server: used(self.server, before.server),
            postgres: used(self.postgres, before.postgres),
            redis: used(self.redis, before.redis),
            rabbitmq: used(self.rabbitmq, before.rabbitmq),
            wrk: None,
        }
    }

    /// The sum. `None` if a part is unknown, except RabbitMQ, which only runs for cases with events.
    pub(crate) fn total(self) -> Option<f64> {
        let rabbitmq = self.rabbitmq.unwrap_or(0.0);
        Some(self.server? + self.postgres? + self.redis? + rabbitmq + self.wrk?)
    }
}

impl Load {
    /// Text for the progress line.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        if let Some(batches) = &self.batches {
            words += &format!("   {:.0} a batch", batches.mean_requests);
        }
        let (apart, errors) = (self.apart, self.wrk.socket_errors);
        if apart + errors > 0 {
            words += &format!("   NOT COUNTED: {apart} other answers, {errors} socket errors");
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_adds_up_unless_a_part_is_unknown() {
        let cpu = Cpu {
            server: Some(4.0),
            postgres: Some(2.0),
            redis: Some(0.5),
            rabbitmq: None,
            wrk: Some(1.5),
        };
        assert_eq!(cpu.total(), Some(8.0));
        let with_rabbitmq = Cpu {
            rabbitmq: Some(1.0),
            ..cpu
        };
        assert_eq!(with_rabbitmq.total(), Some(9.0));
        let elsewhere = Cpu {
            postgres: None,
            ..cpu
        };
        assert_eq!(elsewhere.total(), None);
    }
}
