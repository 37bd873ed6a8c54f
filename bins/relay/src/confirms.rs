//! The messages in flight on one channel, and what became of each.

use std::{collections::HashMap, future::pending};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use lapin::{Confirmation, types::ShortString};

/// Number of a message on its channel, in the order of sending.
pub(crate) type Tag = u64;

/// Outcome of a published message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    /// The broker has stored it in every queue that is bound for it.
    Acked,
    /// No queue is bound for it.
    Returned,
    /// The broker refused this message, and accepted all others with its routing key.
    Refused,
    /// The broker refused it, but would have refused any message: for example, a queue is full.
    QueueRejected,
    /// No confirm came: the message may have arrived. Its row stays unpublished.
    Unknown,
}

/// A message that has its confirm.
struct Confirmed {
    tag: Tag,
    id: ShortString,
    fate: Fate,
}

type Confirming = BoxFuture<'static, (Tag, ShortString, lapin::Result<Confirmation>)>;

/// Gives each confirm and each return to its message.
///
/// With several messages in flight, lapin 4 hands the oldest return to whichever confirm comes next, so a return is
/// matched by its message id. The broker sends a return before the ack of its own message, and lapin gives one waiting
/// return to every confirm, in the order of arrival. So a confirm without a return proves that no return was waiting:
/// for each confirm up to this one it is certain whether its message was returned. The same holds when nothing is in
/// flight any more. Until then, an ack may belong to a message whose own return still waits.
#[derive(Default)]
pub(crate) struct Confirms {
    in_flight: FuturesUnordered<Confirming>,
    /// Confirmed messages, in the order of their confirms, for which this is not certain yet.
    doubtful: Vec<Confirmed>,
    /// Number of entries in `doubtful` for which it has become certain.
    certain: usize,
    /// Returns whose message has no outcome yet, by message id. Copies of one event may be in flight.
    returned: HashMap<ShortString, u32>,
    error: Option<lapin::Error>,
}

impl Confirms {
    /// Adds a message with the future of its confirm. `FuturesUnordered` polls futures in the order in which they were
    /// added or woken, so messages are sent, and confirms seen, in order. Sent one after the other, each message would
    /// cost a write and two thread switches. Polled by one task they are sent together.
    pub(crate) fn push(
        &mut self,
        tag: Tag,
        id: ShortString,
        confirm: BoxFuture<'static, lapin::Result<Confirmation>>,
    ) {
        let confirming = confirm.map(move |confirmation| (tag, id, confirmation));
        self.in_flight.push(confirming.boxed());
    }

    /// Waits for the next outcomes. Never returns while nothing is in flight. After an error no more outcomes come.
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> lapin::Result<Vec<(Tag, Fate)>> {
        loop {
            let mut next = match self.in_flight.next().await {
                Some(next) => Some(next),
                None => match &self.error {
                    Some(error) => return Err(error.clone()),
                    None => pending().await,
                },
            };
            // All that are here already, so that they are recorded together.
            while let Some((tag, id, confirmation)) = next {
                self.record(tag, id, confirmation);
                next = self.in_flight.next().now_or_never().flatten();
            }
            let outcomes = self.take_certain();
            if !outcomes.is_empty() {
                return Ok(outcomes);
            }
            if let Some(error) = &self.error {
                return Err(error.clone());
            }
        }
    }

    fn record(&mut self, tag: Tag, id: ShortString, confirmation: lapin::Result<Confirmation>) {
        let (fate, back) = match confirmation {
            Ok(Confirmation::Ack(back)) => (Fate::Acked, back),
            Ok(Confirmation::Nack(back)) => (Fate::QueueRejected, back),
            // Cannot be: the channel is in confirm mode.
            Ok(Confirmation::NotRequested) => (Fate::Unknown, None),
            Err(error) => {
                self.error.get_or_insert(error);
                return;
            }
        };
        let back = back.and_then(|back| back.properties.message_id().clone());
        self.confirmed(Confirmed { tag, id, fate }, back);
    }

    /// A confirm came, with the return of some message or with none.
    fn confirmed(&mut self, confirmed: Confirmed, returned: Option<ShortString>) {
        self.doubtful.push(confirmed);
        match returned {
            Some(id) => *self.returned.entry(id).or_default() += 1,
            None => self.certain = self.doubtful.len(),
        }
    }

    fn take_certain(&mut self) -> Vec<(Tag, Fate)> {
        // Without an answer to a message, nothing says that no return waits.
        if self.in_flight.is_empty() && self.error.is_none() {
            self.certain = self.doubtful.len();
        }
        let certain = std::mem::take(&mut self.certain);
        let mut outcomes = Vec::new();
        let mut index = 0;
        self.doubtful.retain(|confirmed| {
            let fate = match self.returned.get_mut(&confirmed.id) {
                Some(copies) => {
                    *copies -= 1;
                    if *copies == 0 {
                        self.returned.remove(&confirmed.id);
                    }
                    Some(Fate::Returned)
                }
                None => (index < certain).then_some(confirmed.fate),
            };
            index += 1;
            outcomes.extend(fate.map(|fate| (confirmed.tag, fate)));
            fate.is_none()
        });
        outcomes
    }
}

/// Distinguishes the refusal of one message from the refusal of a full queue. If the broker accepted all other
/// messages of the routing key, and at least one of them later, then the queues had room, and only this message was
/// refused. The rule can fail when a consumer frees room in the middle of a batch. Therefore an event has several
/// attempts.
pub(crate) fn classify_nacks<'a>(fates: &mut [Fate], keys: impl Iterator<Item = &'a ShortString>) {
    let mut by_key: HashMap<_, Vec<usize>> = HashMap::new();
    if fates.contains(&Fate::QueueRejected) {
        for (index, key) in keys.enumerate() {
            by_key.entry(key).or_default().push(index);
        }
    }
    for indexes in by_key.values() {
        let mut others = indexes.iter().filter(|&&index| fates[index] != Fate::Acked);
        if let (Some(&one), None) = (others.next(), others.next())
            && fates[one] == Fate::QueueRejected
            && indexes.last() != Some(&one)
        {
            fates[one] = Fate::Refused;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate::*, *};

    fn judged<const N: usize>(messages: [(&str, Fate); N]) -> [Fate; N] {
        let keys = messages.map(|(key, _)| ShortString::from(key));
        let mut fates = messages.map(|(_, fate)| fate);
        classify_nacks(&mut fates, keys.iter());
        fates
    }

    #[test]
    fn a_message_is_refused_alone_between_others_that_are_taken() {
        let (yes, no) = (("a", Acked), ("a", QueueRejected));
        assert_eq!(judged([yes, no, yes]), [Acked, Refused, Acked]);
        assert_eq!(judged([no, yes]), [Refused, Acked]);
        // A queue that becomes full, one that is full, and one that is being consumed.
        assert_eq!(judged([yes, yes, no]), [Acked, Acked, QueueRejected]);
        assert_eq!(judged([no]), [QueueRejected]);
        assert_eq!(judged([no, no]), [QueueRejected, QueueRejected]);
        assert_eq!(
            judged([no, yes, no, yes])[..3],
            [QueueRejected, Acked, QueueRejected]
        );
        // Other routing keys lead to other queues, and of some messages the outcome is unknown.
        assert_eq!(judged([no, ("b", Acked)]), [QueueRejected, Acked]);
        assert_eq!(
            judged([no, ("b", QueueRejected), yes, ("b", Acked)])[..2],
            [Refused, Refused]
        );
        assert_eq!(judged([no, ("a", Unknown), yes])[0], QueueRejected);
    }

    /// The outcomes after confirms of messages, each with the return that it carried. One more message is in flight.
    fn outcomes(came: &[(&str, Option<&str>)]) -> Vec<(Tag, Fate)> {
        let mut confirms = Confirms::default();
        let silent = futures_util::future::pending().boxed();
        confirms.push(99, "silent".into(), silent);
        for ((id, returned), tag) in came.iter().zip(0..) {
            let (id, fate) = ((*id).into(), Acked);
            confirms.confirmed(Confirmed { tag, id, fate }, returned.map(Into::into));
        }
        confirms.take_certain()
    }

    #[test]
    fn returns_go_by_message_id_and_a_confirm_without_one_ends_the_doubt() {
        let [a, b, c] = ["a", "b", "c"];
        assert_eq!(outcomes(&[(a, None), (b, None)]), [(0, Acked), (1, Acked)]);
        // The own return came along.
        assert_eq!(outcomes(&[(a, Some(a))]), [(0, Returned)]);
        // The return of another message: the one of this message may wait behind it.
        assert_eq!(outcomes(&[(a, Some(b))]), []);
        assert_eq!(outcomes(&[(a, Some(b)), (b, Some(c))]), [(1, Returned)]);
        assert_eq!(
            outcomes(&[(a, Some(b)), (b, Some(a))]),
            [(0, Returned), (1, Returned)]
        );
        assert_eq!(
            outcomes(&[(a, Some(c)), (b, None), (c, None)]),
            [(0, Acked), (1, Acked), (2, Returned)]
        );
        assert_eq!(outcomes(&[(a, None), (b, Some(c))]), [(0, Acked)]);
        // Two copies of one event, of which one was returned: the other one counts.
        assert_eq!(
            outcomes(&[(a, Some(a)), (a, None)]),
            [(0, Returned), (1, Acked)]
        );
    }

    #[test]
    fn nothing_is_in_doubt_once_nothing_is_in_flight() {
        let mut confirms = Confirms::default();
        let (tag, id, fate) = (0, "a".into(), Acked);
        confirms.confirmed(Confirmed { tag, id, fate }, Some("b".into()));
        assert_eq!(confirms.take_certain(), [(0, Acked)]);
    }
}
