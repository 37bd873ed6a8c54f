//! The reference: the rules in memory, in simple steps.
//!
//! Holds are identified by position. Time is only whether a deadline has passed, and in which order deadlines passed.
//! The code is independent of the service and simple: each request is decided alone, one after the other.

mod extend;
mod line;
mod orders;
mod reclaim;

use std::collections::BTreeSet;

use inventory::reservation::Status;

pub(super) use self::{line::Entry, orders::Whole};

use crate::support::HOLD_SECONDS;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    pub(super) stock: i32,
    pub(super) held: i32,
    pub(super) sold: i32,
    pub(super) rules: Rules,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) hold_seconds: Option<i32>,
    pub(super) max_hold_seconds: Option<i32>,
    pub(super) max_per_user: Option<i32>,
    pub(super) window: Window,
}

/// The time of a sale relative to now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Window {
    Always,
    Open,
    Ahead,
    Over,
}

#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) product: usize,
    pub(super) user: i64,
    pub(super) quantity: i32,
    pub(super) named: bool,
    /// As stored: ACTIVE until a call ends it.
    pub(super) status: Status,
    /// Its duration in seconds at creation. 0 if it was never ACTIVE.
    pub(super) made_for: i32,
    pub(super) deadline: Deadline,
    /// The number of the call that created it. Holds of one call have the same time.
    born: usize,
    /// When it fell due, in seconds of a distant past. `None`: not due.
    pub(super) due: Option<i32>,
    pub(super) reacquired_from: Option<usize>,
}

/// The deadline of a hold, unless it is moved into the past.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Deadline {
    AfterCreation(i32),
    /// This many seconds after the creation of that hold, which limits its order.
    AfterCreationOf(usize, i32),
    /// By a call, to this many seconds after the call.
    Moved(i32),
}

/// A request to reserve. A product that does not exist has no position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) product: Option<usize>,
    pub(super) user: i64,
    pub(super) quantity: i32,
    pub(super) named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// This hold, in its state after the call.
    Ok(usize),
    ProductNotFound,
    SaleNotOpen,
    SaleClosed,
    AlreadyReserved(usize),
    SoldOut(i32),
    /// Others wait in line.
    SoldOutToWaitlist(i32),
    Joined(usize),
    AlreadyWaiting(usize),
    Left(usize),
    EntryNotFound,
    EntryOffered(usize),
    EntryClosed,
    MaxPerUserReached(i32),
    ReservationNotFound,
    Ended(Status),
    ExpiredSoldOut,
    InsufficientStock(i32),
    TotalTooLarge,
    StockChanged(i32),
    Adjusted,
}

#[derive(Clone, Debug)]
pub(super) struct Adjustment {
    pub(super) product: usize,
    pub(super) delta: i32,
    /// After the call.
    pub(super) stock: i32,
    pub(super) total: i32,
}

#[derive(Clone, Default)]
pub(super) struct Reference {
    pub(super) products: Vec<Product>,
    pub(super) holds: Vec<Hold>,
    pub(super) adjustments: Vec<Adjustment>,
    /// Number of the current call.
    pub(super) calls: usize,
    pub(super) entries: Vec<Entry>,
}

impl Reference {
    /// Decides the requests in order. Units of due holds count as free. `expired` are the holds that the tested call
    /// expired. It may choose them within limits.
    pub(super) fn reserve(
        &mut self,
        requests: &[Request],
        expired: &[usize],
    ) -> Result<Vec<Answer>, String> {
        let mut trial = self.clone();
        for product in 0..self.products.len() {
            let served = trial.serve_for(product, requests);
            if let Some(left) = served.iter().find(|hold| !expired.contains(hold)) {
                return Err(format!("{left} was left, and others wait for its units"));
            }
            let rest: Vec<usize> = expired
                .iter()
                .copied()
                .filter(|hold| !served.contains(hold))
                .collect();
            trial.check_expired(product, requests, &rest)?;
        }
        for &hold in expired {
            self.end(hold, Status::Expired);
        }
        self.offer_all();
        let answers: Vec<Answer> = requests
            .iter()
            .map(|request| self.reserve_one(request))
            .collect();
        for (request, answer) in requests.iter().zip(&answers) {
            if let (Some(product), Answer::SoldOut(_) | Answer::SoldOutToWaitlist(_)) =
                (request.product, answer)
                && !self.due(product).is_empty()
            {
                return Err(format!("{answer:?} while {:?} are due", self.due(product)));
            }
        }
        Ok(answers)
    }

    /// Reserves all or none. A refusal leaves nothing but expired holds, and not even these if the others would have
    /// been granted, unless the refusal names a hold that was offered in this call. Returns all holds, or the first refusal.
    pub(super) fn reserve_batch(
        &mut self,
        requests: &[Request],
        expired: &[usize],
    ) -> Result<Vec<Answer>, String> {
        let granted = |answer: &Answer| matches!(answer, Answer::Ok(_));
        // A trial with the units of all due holds shows whether the batch is refused.
        let mut trial = self.clone();
        (0..trial.products.len()).for_each(|product| {
            trial.expire(product, usize::MAX);
        });
        let tried: Vec<Answer> = requests
            .iter()
            .map(|request| trial.reserve_one(request))
            .collect();
        let is_refused = tried.iter().any(granted) && !tried.iter().all(granted);
        // Products whose lines have given the user a hold in this call.
        let given: BTreeSet<usize> = requests
            .iter()
            .zip(&tried)
            .filter(|(_, answer)| matches!(answer, Answer::AlreadyReserved(hold) if *hold >= self.holds.len()))
            .filter_map(|(request, _)| request.product)
            .collect();
        if is_refused && !given.is_empty() {
            // The refusal names that hold. It stays, and so does what all in its line were given.
            let served: Vec<usize> = given.iter().flat_map(|it| self.serve(*it)).collect();
            if served.iter().collect::<BTreeSet<_>>() != expired.iter().collect() {
                return Err(format!(
                    "{served:?} are served, and {expired:?} have expired"
                ));
            }
            let mut trial = self.clone();
            trial.sweep();
            let mut again = requests.iter().map(|request| trial.reserve_one(request));
            let refusal = again.find(|answer| !granted(answer));
            refusal.map_or(Err("no refusal".to_owned()), |refusal| Ok(vec![refusal]))
        } else if is_refused {
            if !expired.is_empty() {
                return Err(format!("undone, and {expired:?} are not"));
            }
            tried
                .into_iter()
                .find(|answer| !granted(answer))
                .map_or(Err("no refusal".to_owned()), |refusal| Ok(vec![refusal]))
        } else {
            let answers = self.reserve(requests, expired)?;
            if let Some(refusal) = answers.iter().find(|answer| !granted(answer)) {
                return Ok(vec![*refusal]);
            }
            self.give_the_shortest_time(answers.len());
            Ok(answers)
        }
    }

    /// The newest holds, all of one batch, last as long as the one of them that lasts the shortest.
    fn give_the_shortest_time(&mut self, count: usize) {
        let first = self.holds.len() - count;
        let shortest = self.holds[first..].iter().map(|hold| hold.made_for).min();
        for hold in &mut self.holds[first..] {
            hold.made_for = shortest.unwrap_or(0);
            hold.deadline = Deadline::AfterCreation(hold.made_for);
        }
    }

    fn reserve_one(&mut self, request: &Request) -> Answer {
        let Some(product) = request.product else {
            return Answer::ProductNotFound;
        };
        let own = |hold: &Hold| hold.product == product && hold.user == request.user;
        let live = |hold: &Hold| hold.status == Status::Active && hold.due.is_none();
        if let Some(hold) = self.holds.iter().position(|hold| own(hold) && live(hold)) {
            return Answer::AlreadyReserved(hold);
        }
        match self.products[product].rules.window {
            Window::Ahead => return Answer::SaleNotOpen,
            Window::Over => return Answer::SaleClosed,
            Window::Always | Window::Open => {}
        }
        let stock = self.products[product].stock;
        if !self.line(product).is_empty() {
            return Answer::SoldOutToWaitlist(stock);
        }
        if request.quantity > stock {
            return Answer::SoldOut(stock);
        }
        if let Some(remaining) = self.remaining(product, request.user)
            && request.quantity > remaining
        {
            return Answer::MaxPerUserReached(remaining);
        }
        let counters = &mut self.products[product];
        counters.stock -= request.quantity;
        counters.held += request.quantity;
        let lasts = counters.rules.hold_seconds.unwrap_or(HOLD_SECONDS);
        self.holds.push(Hold {
            product,
            user: request.user,
            quantity: request.quantity,
            named: request.named,
            status: Status::Active,
            made_for: lasts,
            deadline: Deadline::AfterCreation(lasts),
            born: self.calls,
            due: None,
            reacquired_from: None,
        });
        Answer::Ok(self.holds.len() - 1)
    }

    /// How many more units a user may have. `None`: unlimited.
    fn remaining(&self, product: usize, user: i64) -> Option<i32> {
        let max_per_user = self.products[product].rules.max_per_user?;
        let mut units = 0;
        for hold in &self.holds {
            let counts = match hold.status {
                Status::Confirmed => true,
                Status::Active => hold.due.is_none(),
                Status::Canceled | Status::Expired | Status::Returned => false,
            };
            if counts && (hold.product, hold.user) == (product, user) {
                units += hold.quantity;
            }
        }
        Some((max_per_user - units).max(0))
    }

    pub(super) fn confirm(&mut self, holds: &[Option<usize>]) -> Vec<Answer> {
        self.turn_each(holds, Status::Active, Status::Confirmed)
    }

    pub(super) fn cancel(&mut self, holds: &[Option<usize>]) -> Vec<Answer> {
        let answers = self.turn_each(holds, Status::Active, Status::Canceled);
        self.offer_all();
        answers
    }

    pub(super) fn return_sold(&mut self, holds: &[Option<usize>]) -> Vec<Answer> {
        let answers = self.turn_each(holds, Status::Confirmed, Status::Returned);
        self.offer_all();
        answers
    }

    fn turn_each(&mut self, holds: &[Option<usize>], from: Status, to: Status) -> Vec<Answer> {
        let mut answers = Vec::new();
        for hold in holds {
            answers.push(match *hold {
                None => Answer::ReservationNotFound,
                Some(hold) => {
                    if self.effective(hold) == from {
                        self.end(hold, to);
                    }
                    match self.effective(hold) {
                        status if status == to => Answer::Ok(hold),
                        status => Answer::Ended(status),
                    }
                }
            });
        }
        answers
    }

    /// Sells the units of an expired hold again. Also returns how many holds were expired.
    pub(super) fn reacquire(&mut self, lost: Option<usize>) -> (Answer, u64) {
        let Some(lost) = lost else {
            return (Answer::ReservationNotFound, 0);
        };
        let old = self.holds[lost].clone();
        let again = self
            .holds
            .iter()
            .position(|hold| hold.reacquired_from == Some(lost));
        let standing = again.unwrap_or(lost);
        match self.effective(standing) {
            Status::Confirmed => return (Answer::Ok(standing), 0),
            Status::Expired => {}
            status => return (Answer::Ended(status), 0),
        }
        let mut expired = 0;
        if self.products[old.product].stock < old.quantity {
            expired = self.expire(old.product, usize::MAX);
        }
        let has_line = !self.line(old.product).is_empty();
        if self.products[old.product].stock < old.quantity || has_line {
            return (Answer::ExpiredSoldOut, expired);
        }
        if let Some(remaining) = self.remaining(old.product, old.user)
            && old.quantity > remaining
        {
            return (Answer::MaxPerUserReached(remaining), expired);
        }
        self.products[old.product].stock -= old.quantity;
        self.products[old.product].sold += old.quantity;
        self.holds.push(Hold {
            status: Status::Confirmed,
            made_for: 0,
            deadline: Deadline::AfterCreation(0),
            due: None,
            reacquired_from: Some(lost),
            ..old
        });
        (Answer::Ok(self.holds.len() - 1), expired)
    }

    /// Adds or removes free units. Also returns how many holds were expired.
    pub(super) fn adjust_stock(&mut self, product: Option<usize>, delta: i32) -> (Answer, u64) {
        let Some(product) = product else {
            return (Answer::ProductNotFound, 0);
        };
        let fits = |units: i32| units.checked_add(delta).filter(|units| *units >= 0);
        let mut expired = 0;
        if delta < 0 && fits(self.products[product].stock).is_none() {
            expired = self.expire(product, usize::MAX);
        }
        let counters = &mut self.products[product];
        let total = counters.stock + counters.held + counters.sold;
        let (Some(stock), Some(total)) = (fits(counters.stock), fits(total)) else {
            let refusal = if delta < 0 {
                Answer::InsufficientStock(counters.stock)
            } else {
                Answer::TotalTooLarge
            };
            return (refusal, expired);
        };
        counters.stock = stock;
        self.adjustments.push(Adjustment {
            product,
            delta,
            stock,
            total,
        });
        self.offer(product);
        (Answer::Adjusted, expired)
    }

    /// Sets the free units.
    pub(super) fn set_stock(
        &mut self,
        product: Option<usize>,
        stock: i32,
        expected: Option<i32>,
    ) -> Answer {
        let Some(position) = product else {
            return Answer::ProductNotFound;
        };
        let there = self.products[position].stock;
        if expected.is_some_and(|expected| expected != there) {
            return Answer::StockChanged(there);
        }
        if stock == there {
            return Answer::Adjusted;
        }
        self.adjust_stock(product, stock - there).0
    }

    /// Expires up to `max_rows` due holds of a product. Returns their number.
    pub(super) fn expire(&mut self, product: usize, max_rows: usize) -> u64 {
        let mut due = self.due(product);
        due.truncate(max_rows);
        for &hold in &due {
            self.end(hold, Status::Expired);
        }
        self.offer(product);
        due.len() as u64
    }

    pub(super) fn sweep(&mut self) -> u64 {
        (0..self.products.len())
            .map(|product| {
                self.calls += 1;
                self.expire(product, usize::MAX)
            })
            .sum()
    }

    /// The status that a reader sees.
    pub(super) fn effective(&self, hold: usize) -> Status {
        match &self.holds[hold] {
            Hold {
                status: Status::Active,
                due: Some(_),
                ..
            } => Status::Expired,
            hold => hold.status,
        }
    }

    /// The ACTIVE holds of a product past their deadline, longest due first.
    fn due(&self, product: usize) -> Vec<usize> {
        let mut due: Vec<usize> = (0..self.holds.len())
            .filter(|hold| {
                let hold = &self.holds[*hold];
                hold.product == product && hold.status == Status::Active && hold.due.is_some()
            })
            .collect();
        due.sort_by_key(|hold| self.holds[*hold].due);
        due
    }

    fn units(&self, holds: &[usize]) -> i32 {
        holds.iter().map(|hold| self.holds[*hold].quantity).sum()
    }

    fn end(&mut self, hold: usize, status: Status) {
        let hold = &mut self.holds[hold];
        let counters = &mut self.products[hold.product];
        let (from, to) = match status {
            Status::Confirmed => (&mut counters.held, &mut counters.sold),
            Status::Returned => (&mut counters.sold, &mut counters.stock),
            _ => (&mut counters.held, &mut counters.stock),
        };
        *from -= hold.quantity;
        *to += hold.quantity;
        hold.status = status;
    }
}
