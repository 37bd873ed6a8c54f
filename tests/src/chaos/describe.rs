//! Parts of a history as text, for people.

use super::{
    clock::{Micros, Seconds},
    history::{Answer, History, Hold, Operation},
};

impl History {
    /// One line of text, with times in seconds since the start.
    pub(crate) fn describe(&self, operation: &Operation) -> String {
        let Operation {
            client,
            api,
            request,
            ..
        } = operation;
        let answer = self.describe_answer(&operation.answer);
        let key = operation.key.as_deref();
        let key = key.map_or(String::new(), |key| format!(" with key {key}"));
        let replayed = if operation.replayed { ", replayed" } else { "" };
        format!(
            "{} to {}  client {client} to api{}  {request:?}{key}: {answer}{replayed}",
            self.clock(operation.began),
            self.clock(operation.ended),
            api + 1
        )
    }

    pub(crate) fn describe_answer(&self, answer: &Answer) -> String {
        match answer {
            Answer::Hold(hold) => self.describe_hold(hold),
            Answer::Holds(holds) => holds
                .iter()
                .map(|hold| self.describe_hold(hold))
                .collect::<Vec<_>>()
                .join("; "),
            other => format!("{other:?}"),
        }
    }

    pub(crate) fn describe_hold(&self, hold: &Hold) -> String {
        let ended = hold
            .ended
            .map_or(String::new(), |at| format!(", ended {}", self.clock(at)));
        format!(
            "hold {} of {} units of product {} by user {} is {:?}, made {}, due {}{ended}",
            hold.id,
            hold.quantity,
            hold.product,
            hold.user,
            hold.status,
            self.clock(hold.created),
            self.clock(hold.expires)
        )
    }

    /// Seconds since the start.
    pub(crate) fn clock(&self, at: Micros) -> Seconds {
        Seconds(at - self.began)
    }
}
