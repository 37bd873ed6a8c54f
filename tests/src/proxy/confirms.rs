//! The broker's half of an AMQP connection, with faults of its confirms.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::traffic::{Rules, Traffic, passed};

/// Class and method of `basic.ack`, and where a frame has them.
const ACK: [u8; 4] = [0, 60, 0, 80];
const METHOD: std::ops::Range<usize> = 7..11;
/// The delivery tag is followed by the bit `multiple`.
const TAG: std::ops::Range<usize> = 11..19;
const MULTIPLE: usize = 19;

type Frame = Vec<u8>;

/// Forwards frames from the broker until the connection ends.
pub(super) async fn pump(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rules: watch::Receiver<Rules>,
    stops: &[Traffic],
) {
    // Type, channel, length of the payload; payload; end.
    let codec = LengthDelimitedCodec::builder()
        .length_field_offset(3)
        .length_field_length(4)
        .length_adjustment(8)
        .num_skip(0)
        .new_codec();
    let mut frames = FramedRead::new(from, codec);
    let mut held = Held::default();
    loop {
        let next_late = held.late.front().map(|(at, _)| *at);
        let written = tokio::select! {
            frame = frames.next() => {
                let Some(Ok(frame)) = frame else { return };
                let Some(traffic) = passed(&mut rules, stops).await else { return };
                write_all(&mut to, held.take(frame.into(), traffic)).await
            }
            () = sleep_until(next_late.unwrap_or_else(Instant::now)), if next_late.is_some() => {
                let Some(_) = passed(&mut rules, stops).await else { return };
                let (_, frame) = held.late.pop_front().unwrap_or((Instant::now(), Frame::new()));
                write_all(&mut to, vec![frame]).await
            }
            changed = rules.changed() => {
                if changed.is_err() {
                    return;
                }
                let some = rules.borrow_and_update().traffic == Traffic::SomeConfirms;
                write_all(&mut to, if some { Vec::new() } else { held.odd.split_off(0) }).await
            }
        };
        if written.is_err() {
            return;
        }
    }
}

async fn write_all(to: &mut OwnedWriteHalf, frames: Vec<Frame>) -> io::Result<()> {
    to.write_all(&frames.concat()).await
}

/// Acks that are held back.
#[derive(Default)]
struct Held {
    late: VecDeque<(Instant, Frame)>,
    odd: Vec<Frame>,
    channels: HashMap<[u8; 2], Acked>,
}

/// The messages of a channel that are acked.
#[derive(Default)]
struct Acked {
    /// All up to this tag.
    up_to: u64,
    /// And these.
    more: HashSet<u64>,
}

impl Held {
    /// Takes a frame. Returns the frames to forward now.
    fn take(&mut self, frame: Frame, traffic: Traffic) -> Vec<Frame> {
        let is_ack = frame[0] == 1 && frame.get(METHOD) == Some(&ACK);
        if !is_ack {
            return vec![frame];
        }
        let channel = self.channels.entry([frame[1], frame[2]]).or_default();
        let tags = channel.acked_by(&frame);
        let delay = match traffic {
            Traffic::LateConfirms(delay) => delay,
            _ => Duration::ZERO,
        };
        if traffic == Traffic::SomeConfirms {
            let (odd, even): (Vec<_>, Vec<_>) = tags.iter().partition(|tag| **tag % 2 == 1);
            let ack = |tag: u64| {
                let mut ack = frame.clone();
                ack[TAG].copy_from_slice(&tag.to_be_bytes());
                ack[MULTIPLE] = 0;
                ack
            };
            self.odd.extend(odd.into_iter().map(ack));
            return even.into_iter().map(ack).collect();
        }
        // An ack must not overtake an earlier one: it may include the same messages.
        let Some(&(last, _)) = self.late.back() else {
            if delay.is_zero() {
                return [self.odd.split_off(0), vec![frame]].concat();
            }
            self.late.push_back((Instant::now() + delay, frame));
            return Vec::new();
        };
        self.late
            .push_back((last.max(Instant::now() + delay), frame));
        Vec::new()
    }
}

impl Acked {
    /// The messages that an ack frame adds.
    fn acked_by(&mut self, frame: &[u8]) -> Vec<u64> {
        let tag = u64::from_be_bytes(frame[TAG].try_into().unwrap());
        if frame[MULTIPLE] == 0 {
            self.more.insert(tag);
            return vec![tag];
        }
        let new = (self.up_to + 1..=tag)
            .filter(|tag| !self.more.remove(tag))
            .collect();
        self.up_to = self.up_to.max(tag);
        new
    }
}
