//! The rules once more, in memory and in plain steps: what PostgreSQL is held against.
//!
//! It knows holds by their position, and time as whether a deadline has passed, and in which order deadlines
//! did. It shares no code with the service, and no cleverness: each request is judged alone, in its turn.

use inventory::reservation::Status;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    pub(super) stock: i32,
    pub(super) held: i32,
    pub(super) sold: i32,
}

#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) product: usize,
    pub(super) user: i64,
    pub(super) quantity: i32,
    /// As stored: ACTIVE until a call ends it.
    pub(super) status: Status,
    /// When it fell due, in seconds of an age long past; `None`: it has not.
    pub(super) due: Option<i32>,
}

/// A request to reserve. A product that does not exist has no position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) product: Option<usize>,
    pub(super) user: i64,
    pub(super) quantity: i32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// This hold, as it is after the call.
    Ok(usize),
    ProductNotFound,
    AlreadyReserved(usize),
    SoldOut(i32),
    ReservationNotFound,
    Ended(Status),
}

#[derive(Default)]
pub(super) struct Reference {
    pub(super) products: Vec<Product>,
    pub(super) holds: Vec<Hold>,
}

impl Reference {
    /// Answers each request in its turn; units of due holds are to be had like free ones. `expired`: the
    /// holds that the call under test ended on its way, which is its choice within limits.
    pub(super) fn reserve(
        &mut self,
        requests: &[Request],
        expired: &[usize],
    ) -> Result<Vec<Answer>, String> {
        for product in 0..self.products.len() {
            self.check_expired(product, requests, expired)?;
        }
        for &hold in expired {
            self.end(hold, Status::Expired);
        }
        let answers: Vec<Answer> = requests
            .iter()
            .map(|request| self.reserve_one(request))
            .collect();
        for (request, answer) in requests.iter().zip(&answers) {
            if let (Some(product), Answer::SoldOut(_)) = (request.product, answer)
                && !self.due(product).is_empty()
            {
                return Err(format!("{answer:?} while {:?} are due", self.due(product)));
            }
        }
        Ok(answers)
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
        let counters = &mut self.products[product];
        if request.quantity > counters.stock {
            return Answer::SoldOut(counters.stock);
        }
        counters.stock -= request.quantity;
        counters.held += request.quantity;
        self.holds.push(Hold {
            product,
            user: request.user,
            quantity: request.quantity,
            status: Status::Active,
            due: None,
        });
        Answer::Ok(self.holds.len() - 1)
    }

    /// Which due holds of a product a reserve may and must end: the users' own, and of the others just the
    /// ones that are longest due, no more than it lacks units.
    fn check_expired(
        &self,
        product: usize,
        requests: &[Request],
        expired: &[usize],
    ) -> Result<(), String> {
        let requests: Vec<&Request> = requests
            .iter()
            .filter(|request| request.product == Some(product))
            .collect();
        let due = self.due(product);
        let asks = |hold: &usize| {
            let user = self.holds[*hold].user;
            requests.iter().any(|request| request.user == user)
        };
        let (own, others): (Vec<usize>, Vec<usize>) = due.iter().partition(|hold| asks(hold));
        let ended: Vec<usize> = due
            .iter()
            .copied()
            .filter(|hold| expired.contains(hold))
            .collect();
        let reclaimed: Vec<usize> = ended.iter().copied().filter(|hold| !asks(hold)).collect();
        if let Some(left) = own.iter().find(|hold| !ended.contains(hold)) {
            return Err(format!("the user's own due hold {left} was left"));
        }
        if !others.starts_with(&reclaimed) {
            return Err(format!(
                "reclaimed {reclaimed:?}, where the longest due are {others:?}"
            ));
        }
        let is_live = |user| {
            let mut holds = self.holds.iter();
            holds.any(|hold| {
                (hold.product, hold.user) == (product, user)
                    && hold.status == Status::Active
                    && hold.due.is_none()
            })
        };
        let wanted: i32 = requests
            .iter()
            .filter(|request| !is_live(request.user))
            .map(|request| request.quantity)
            .sum();
        let lacking = wanted - self.products[product].stock - self.units(&own);
        if reclaimed.len() as i32 > lacking.max(0) {
            return Err(format!("reclaimed {reclaimed:?} for {lacking} units"));
        }
        Ok(())
    }

    pub(super) fn confirm(&mut self, holds: &[Option<usize>]) -> Vec<Answer> {
        self.end_each(holds, Status::Confirmed)
    }

    pub(super) fn cancel(&mut self, holds: &[Option<usize>]) -> Vec<Answer> {
        self.end_each(holds, Status::Canceled)
    }

    fn end_each(&mut self, holds: &[Option<usize>], wanted: Status) -> Vec<Answer> {
        let mut answers = Vec::new();
        for hold in holds {
            answers.push(match *hold {
                None => Answer::ReservationNotFound,
                Some(hold) => match self.effective(hold) {
                    Status::Active => {
                        self.end(hold, wanted);
                        Answer::Ok(hold)
                    }
                    status if status == wanted => Answer::Ok(hold),
                    status => Answer::Ended(status),
                },
            });
        }
        answers
    }

    /// Ends up to `max_rows` due holds of a product, and answers how many.
    pub(super) fn expire(&mut self, product: usize, max_rows: usize) -> u64 {
        let mut due = self.due(product);
        due.truncate(max_rows);
        for &hold in &due {
            self.end(hold, Status::Expired);
        }
        due.len() as u64
    }

    pub(super) fn sweep(&mut self) -> u64 {
        (0..self.products.len())
            .map(|product| self.expire(product, usize::MAX))
            .sum()
    }

    /// What a reader is told.
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

    /// The ACTIVE holds of a product that are past their deadline, longest due first.
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
        hold.status = status;
        counters.held -= hold.quantity;
        match status {
            Status::Confirmed => counters.sold += hold.quantity,
            _ => counters.stock += hold.quantity,
        }
    }
}
