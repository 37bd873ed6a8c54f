//! The line of each product, in memory.

use inventory::{reservation::Status, waitlist::EntryStatus};

use super::{Answer, Deadline, Hold, Reference, Request, Window};
use crate::support::HOLD_SECONDS;

/// An entry of a waitlist. Its position in the list of entries is its order in the line.
#[derive(Clone, Debug)]
pub(in super::super) struct Entry {
    pub(in super::super) product: usize,
    pub(in super::super) user: i64,
    pub(in super::super) quantity: i32,
    pub(in super::super) named: bool,
    pub(in super::super) status: EntryStatus,
    /// The offered hold.
    pub(in super::super) hold: Option<usize>,
}

impl Reference {
    /// Those who wait for a product, first in line first.
    pub(in super::super) fn line(&self, product: usize) -> Vec<usize> {
        let waits = |entry: &usize| {
            let entry = &self.entries[*entry];
            entry.product == product && entry.status == EntryStatus::Waiting
        };
        (0..self.entries.len()).filter(waits).collect()
    }

    pub(in super::super) fn offered(&self) -> usize {
        let mut offered = self.entries.iter();
        offered
            .by_ref()
            .filter(|entry| entry.hold.is_some())
            .count()
    }

    pub(super) fn is_on_sale(&self, product: usize) -> bool {
        matches!(
            self.products[product].rules.window,
            Window::Always | Window::Open
        )
    }

    pub(super) fn offer_all(&mut self) {
        (0..self.products.len()).for_each(|product| self.offer(product));
    }

    /// Gives free units to the first in line, one after the other. After the sale, all are closed.
    pub(in super::super) fn offer(&mut self, product: usize) {
        let window = self.products[product].rules.window;
        if window == Window::Ahead || (self.products[product].stock == 0 && window != Window::Over)
        {
            return;
        }
        for entry in self.line(product) {
            let Entry { user, quantity, .. } = self.entries[entry];
            let allowed = self
                .remaining(product, user)
                .is_none_or(|remaining| quantity <= remaining);
            if window == Window::Over || !allowed {
                self.entries[entry].status = EntryStatus::Closed;
            } else if quantity > self.products[product].stock {
                return;
            } else {
                self.offer_one(entry);
            }
        }
    }

    fn offer_one(&mut self, entry: usize) {
        let Entry {
            product,
            user,
            quantity,
            named,
            ..
        } = self.entries[entry];
        let counters = &mut self.products[product];
        counters.stock -= quantity;
        counters.held += quantity;
        let lasts = counters.rules.hold_seconds.unwrap_or(HOLD_SECONDS);
        self.entries[entry].status = EntryStatus::Offered;
        self.entries[entry].hold = Some(self.holds.len());
        self.holds.push(Hold {
            product,
            user,
            quantity,
            named,
            status: Status::Active,
            made_for: lasts,
            deadline: Deadline::AfterCreation(lasts),
            born: self.calls,
            due: None,
            reacquired_from: None,
        });
    }

    /// Gives units that are free or due to those in line. Due holds end as far as the line wants their units. Returns
    /// these holds.
    pub(super) fn serve(&mut self, product: usize) -> Vec<usize> {
        self.offer(product);
        let mut ended = Vec::new();
        loop {
            let wanted: i32 = self
                .line(product)
                .iter()
                .map(|entry| self.entries[*entry].quantity)
                .sum();
            let lacking = wanted - self.products[product].stock;
            let mut due = self.due(product);
            due.truncate(lacking.max(0) as usize);
            if due.is_empty() {
                return ended;
            }
            for &hold in &due {
                self.end(hold, Status::Expired);
            }
            self.offer(product);
            ended.extend(due);
        }
    }

    /// The same as a part of a reserve, if one of its requests comes behind those in line.
    pub(super) fn serve_for(&mut self, product: usize, requests: &[Request]) -> Vec<usize> {
        let waits = |request: &Request| {
            request.product == Some(product) && self.live(product, request.user).is_none()
        };
        if self.is_on_sale(product) && requests.iter().any(waits) {
            self.serve(product)
        } else {
            Vec::new()
        }
    }

    fn live(&self, product: usize, user: i64) -> Option<usize> {
        self.holds.iter().position(|hold| {
            (hold.product, hold.user) == (product, user)
                && hold.status == Status::Active
                && hold.due.is_none()
        })
    }

    /// Also returns how many holds were expired.
    pub(in super::super) fn join(&mut self, request: &Request) -> (Answer, u64) {
        let Some(product) = request.product else {
            return (Answer::ProductNotFound, 0);
        };
        let user = request.user;
        let mut line = self.line(product).into_iter();
        if let Some(entry) = line.find(|entry| self.entries[*entry].user == user) {
            return (Answer::AlreadyWaiting(entry), 0);
        }
        if let Some(hold) = self.live(product, user) {
            return (Answer::AlreadyReserved(hold), 0);
        }
        match self.products[product].rules.window {
            Window::Ahead => return (Answer::SaleNotOpen, 0),
            Window::Over => return (Answer::SaleClosed, 0),
            Window::Always | Window::Open => {}
        }
        if let Some(remaining) = self.remaining(product, user)
            && request.quantity > remaining
        {
            return (Answer::MaxPerUserReached(remaining), 0);
        }
        let mut due = self.due(product).into_iter();
        let own = due.find(|hold| self.holds[*hold].user == user);
        if let Some(own) = own {
            self.end(own, Status::Expired);
            self.offer(product);
        }
        self.entries.push(Entry {
            product,
            user,
            quantity: request.quantity,
            named: request.named,
            status: EntryStatus::Waiting,
            hold: None,
        });
        let entry = self.entries.len() - 1;
        let ended = self.serve(product);
        let expired = ended.len() + usize::from(own.is_some());
        (Answer::Joined(entry), expired as u64)
    }

    pub(in super::super) fn leave(&mut self, entry: Option<usize>) -> Answer {
        let Some(entry) = entry else {
            return Answer::EntryNotFound;
        };
        match (self.entries[entry].status, self.entries[entry].hold) {
            (_, Some(hold)) => return Answer::EntryOffered(hold),
            (EntryStatus::Closed, _) => return Answer::EntryClosed,
            (EntryStatus::Left, _) => {}
            _ => {
                self.entries[entry].status = EntryStatus::Left;
                self.offer(self.entries[entry].product);
            }
        }
        Answer::Left(entry)
    }
}
