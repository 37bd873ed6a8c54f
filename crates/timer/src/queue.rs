//! The queue of notes for Redis, and their commands.

use std::collections::VecDeque;

use redis::{Cmd, Pipeline, RedisWrite as _};

/// Most timers in the queue. They take 2 MB, and Redis needs about 5 s for them.
const QUEUE_MAX_TIMERS: usize = 100_000;

/// Most timers in one round trip. Redis needs about 5 ms for them, and serves no other client during that time.
const PIPELINE_MAX_TIMERS: usize = 5_000;

/// A counter of reservations in Redis.
#[derive(Clone, Copy, Debug)]
pub enum Counter {
    /// Reservations that were made.
    Created,
    /// Reservations that were confirmed.
    Confirmed,
    /// Holds that were canceled.
    Canceled,
    /// Holds that expired.
    Expired,
}

/// The last part of each counter's key, in the order of [`Counter`].
const COUNTERS: [&str; 4] = ["created", "confirmed", "canceled", "expired"];

/// The queue stores notes, not commands. Therefore a thousand confirms become one `DEL`, one `INCRBY` and one
/// `PUBLISH`.
#[derive(Default)]
pub(crate) struct Queue {
    armed: VecDeque<(i64, i64)>,
    disarmed: VecDeque<i64>,
    counts: [u64; 4],
    wakes_relay: bool,
    overflow: u64,
}

/// The notes of one round trip.
pub(crate) struct Batch {
    armed: Vec<(i64, i64)>,
    disarmed: Vec<i64>,
    counts: [u64; 4],
    wakes_relay: bool,
}

impl Queue {
    pub(crate) fn arm(&mut self, (id, deadline_unix_ms): (i64, i64)) {
        if self.has_room() {
            self.armed.push_back((id, deadline_unix_ms));
        }
    }

    pub(crate) fn disarm(&mut self, id: i64) {
        if self.has_room() {
            self.disarmed.push_back(id);
        }
    }

    /// Counts are always accepted, because they take no space in the queue.
    pub(crate) fn count(&mut self, counter: Counter, by: u64) {
        self.counts[counter as usize] += by;
    }

    pub(crate) fn wake_relay(&mut self) {
        self.wakes_relay = true;
    }

    /// Whether what is queued must be sent at once.
    pub(crate) fn is_urgent(&self) -> bool {
        self.wakes_relay
    }

    pub(crate) fn timers(&self) -> usize {
        self.armed.len() + self.disarmed.len()
    }

    fn has_room(&mut self) -> bool {
        let room = self.timers() < QUEUE_MAX_TIMERS;
        self.overflow += u64::from(!room);
        room
    }

    /// Number of timers that were not accepted since the last call.
    pub(crate) fn take_overflow(&mut self) -> u64 {
        std::mem::take(&mut self.overflow)
    }

    /// Takes the oldest notes for one round trip. `None` if the queue is empty.
    ///
    /// All timers are armed before any is disarmed. A hold is armed first, then perhaps armed again with a later
    /// deadline, and disarmed last. Therefore each key ends in the state of the hold's last note.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let armed = self.armed.len().min(PIPELINE_MAX_TIMERS);
        let armed: Vec<_> = self.armed.drain(..armed).collect();
        let disarmed = match self.armed.len() {
            0 => self.disarmed.len().min(PIPELINE_MAX_TIMERS - armed.len()),
            _ => 0,
        };
        let disarmed = self.disarmed.drain(..disarmed).collect();
        let batch = Batch {
            armed,
            disarmed,
            counts: std::mem::take(&mut self.counts),
            wakes_relay: std::mem::take(&mut self.wakes_relay),
        };
        (batch.commands() > 0 || batch.wakes_relay).then_some(batch)
    }

    /// Removes all timers from the queue, and returns their number. All else stays in the queue.
    pub(crate) fn discard_timers(&mut self) -> u64 {
        let timers = self.timers();
        self.armed.clear();
        self.disarmed.clear();
        timers as u64
    }
}

impl Batch {
    /// Number of commands for timers and counters. A `DEL` counts once for each of its keys.
    pub(crate) fn commands(&self) -> usize {
        let counts = self.counts.iter().filter(|count| **count > 0).count();
        self.armed.len() + self.disarmed.len() + counts
    }
}

/// The names of all keys and channels in Redis.
pub(crate) struct Keys {
    /// `{prefix}reservation:`. The id follows it.
    pub(crate) timer_prefix: String,
    counters: [String; 4],
    /// The channel on which Redis announces the key of each expired timer.
    pub(crate) expired_channel: String,
    /// The channel that wakes relays. Its name has the database number, because channels are not separate per
    /// database.
    pub(crate) outbox_channel: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str, database: i64) -> Self {
        Self {
            timer_prefix: format!("{prefix}reservation:"),
            counters: COUNTERS.map(|name| format!("{prefix}metrics:reservations:{name}")),
            expired_channel: format!("__keyevent@{database}__:expired"),
            outbox_channel: format!("{prefix}outbox:{database}"),
        }
    }

    pub(crate) fn get_counters(&self) -> Cmd {
        let mut get = redis::cmd("MGET");
        get.arg(&self.counters);
        get
    }

    /// Sets all four at once, so that a reader never sees a mix of old and new counters.
    pub(crate) fn set_counters(&self, counts: [i64; 4]) -> Cmd {
        let mut set = redis::cmd("MSET");
        for (key, count) in self.counters.iter().zip(counts) {
            set.arg(key).arg(count);
        }
        set
    }

    /// The batch as commands. Buffers get their full size at the start, because this runs for every hold.
    pub(crate) fn pipeline(&self, batch: &Batch) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(batch.armed.len() + COUNTERS.len() + 2);
        for (id, deadline_unix_ms) in &batch.armed {
            // "SET", "1" and "PXAT" are 8 bytes, and each number has at most 20.
            let mut set = Cmd::with_capacity(5, self.timer_prefix.len() + 48);
            set.arg("SET")
                .write_arg_fmt(format_args!("{}{id}", self.timer_prefix));
            set.arg("1").arg("PXAT").arg(*deadline_unix_ms);
            pipeline.add_command(set);
        }
        if !batch.disarmed.is_empty() {
            let keys = batch.disarmed.len();
            let mut del = Cmd::with_capacity(1 + keys, 3 + keys * (self.timer_prefix.len() + 20));
            del.arg("DEL");
            for id in &batch.disarmed {
                del.write_arg_fmt(format_args!("{}{id}", self.timer_prefix));
            }
            pipeline.add_command(del);
        }
        for (key, count) in self.counters.iter().zip(batch.counts) {
            if count > 0 {
                pipeline.cmd("INCRBY").arg(key).arg(count);
            }
        }
        if batch.wakes_relay {
            pipeline.cmd("PUBLISH").arg(&self.outbox_channel).arg("");
        }
        pipeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(queue: &mut Queue, prefix: &str, database: i64) -> Vec<String> {
        let batch = queue.take().expect("something is queued");
        let pipeline = Keys::new(prefix, database).pipeline(&batch);
        pipeline
            .cmd_iter()
            .map(|cmd| {
                let args = cmd.args_iter().map(|arg| match arg {
                    redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    other => panic!("unexpected argument {other:?}"),
                });
                args.collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    #[test]
    fn a_batch_is_said_with_one_command_per_timer_and_one_per_counter() {
        let mut queue = Queue::default();
        queue.disarm(7);
        queue.disarm(i64::MAX);
        queue.arm((7, 1_771_072_200_000));
        queue.count(Counter::Created, 1);
        queue.count(Counter::Confirmed, 1);
        queue.wake_relay();
        queue.count(Counter::Confirmed, 1);
        queue.wake_relay();
        assert_eq!(
            said(&mut queue, "eu:", 3),
            [
                "SET eu:reservation:7 1 PXAT 1771072200000",
                "DEL eu:reservation:7 eu:reservation:9223372036854775807",
                "INCRBY eu:metrics:reservations:created 1",
                "INCRBY eu:metrics:reservations:confirmed 2",
                "PUBLISH eu:outbox:3 ",
            ]
        );
        assert!(queue.take().is_none());
        // An event may be all that there is to tell.
        queue.wake_relay();
        assert_eq!(said(&mut queue, "", 0), ["PUBLISH outbox:0 "]);
        assert!(queue.take().is_none());
    }

    #[test]
    fn nothing_is_disarmed_before_everything_is_armed() {
        let mut queue = Queue::default();
        for id in 0..PIPELINE_MAX_TIMERS as i64 + 1 {
            queue.arm((id, 1));
        }
        queue.disarm(PIPELINE_MAX_TIMERS as i64);
        let first = queue.take().expect("a full batch");
        assert_eq!(
            (first.armed.len(), first.disarmed.len()),
            (PIPELINE_MAX_TIMERS, 0)
        );
        let second = queue.take().expect("the rest");
        assert_eq!((second.armed.len(), second.disarmed.len()), (1, 1));
    }

    #[test]
    fn a_full_queue_refuses_timers_and_keeps_counting() {
        let mut queue = Queue::default();
        for id in 0..QUEUE_MAX_TIMERS as i64 + 2 {
            queue.arm((id, 1));
            queue.count(Counter::Created, 1);
        }
        assert_eq!(queue.take_overflow(), 2);
        assert_eq!(queue.discard_timers(), QUEUE_MAX_TIMERS as u64);
        assert_eq!(
            said(&mut queue, "", 0),
            ["INCRBY metrics:reservations:created 100002"]
        );
    }
}
