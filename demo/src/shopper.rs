//! A shopper's visit, from the product page to the payment or the exit.

use std::{ops::Range, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    catalog::{Intention, Shopper},
    journal::{End, Hold},
    shop::{Answer, Ask, Stopped},
    state::{Product, Sale},
};

/// Maximum number of visits of one shopper: not open yet, sold out, limited, and sold out again.
const VISITS_MAX: u32 = 6;

/// How a shopper's visit ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Outcome {
    Bought,
    BoughtAtLast,
    BoughtWhenOffered,
    PaidLate,
    PaidBack,
    ChangedTheirMind,
    WalkedAway,
    SoldOut,
    WaitedInVain,
    NoAnswer,
    CutShort,
}

impl Outcome {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Bought => "bought",
            Self::BoughtAtLast => "were too late at first, came back and bought released units",
            Self::BoughtWhenOffered => "waited in the waitlist, were offered units and bought",
            Self::PaidLate => "paid after the deadline, and got it, because units were still free",
            Self::PaidBack => "paid after the deadline, and were refunded: it was sold out",
            Self::ChangedTheirMind => "reserved and canceled",
            Self::WalkedAway => "reserved and walked away: the hold expired",
            Self::SoldOut => "found it sold out",
            Self::WaitedInVain => "waited in the waitlist until the end",
            Self::NoAnswer => "got no answer",
            Self::CutShort => "were still there when it ended",
        }
    }
}

/// The result of an attempt to reserve.
enum Reserved {
    Hold(Hold),
    Refused { code: String, body: Value },
    Unknown,
}

pub(crate) async fn visit(sale: Arc<Sale>, shopper: Shopper) -> Outcome {
    let product = sale.products[shopper.item];
    let visit = Visit {
        sale,
        shopper,
        product,
        visits: 0,
        was_sold_out: false,
        was_offered: false,
    };
    visit.run().await.unwrap_or(Outcome::CutShort)
}

struct Visit {
    sale: Arc<Sale>,
    shopper: Shopper,
    product: Product,
    visits: u32,
    was_sold_out: bool,
    was_offered: bool,
}

impl Visit {
    async fn run(mut self) -> Result<Outcome, Stopped> {
        loop {
            self.visits += 1;
            self.sale.shop.look_at(self.product.id).await;
            self.think(0.0..0.06).await?;
            if self.visits > VISITS_MAX || self.sale.is_over_in(Duration::ZERO) {
                return Ok(Outcome::SoldOut);
            }
            let (code, body) = match self.reserve().await? {
                Reserved::Hold(hold) => return self.decide(hold).await,
                Reserved::Unknown => return Ok(Outcome::NoAnswer),
                Reserved::Refused { code, body } => (code, body),
            };
            match (code.as_str(), body["remaining"].as_i64()) {
                ("sale_not_open", _) => {
                    // All waiting shoppers continue at the same moment, which makes the second rush.
                    let wait = self.product.opens.duration_since(Instant::now());
                    self.sale.shop.pause(wait).await?;
                    self.think(0.0..0.1).await?;
                }
                ("max_per_user_reached", Some(remaining @ 1..)) => {
                    self.shopper.quantity = remaining
                }
                ("sold_out", _) if self.shopper.waits => return self.wait_in_line().await,
                ("sold_out", _) if self.shopper.comes_back > 0 => {
                    self.shopper.comes_back -= 1;
                    self.was_sold_out = true;
                    // By then other holds have expired, unless they were confirmed.
                    let wait = self.some(0.4..1.3);
                    if self.sale.is_over_in(wait) {
                        return Ok(Outcome::SoldOut);
                    }
                    self.sale.shop.pause(wait).await?;
                }
                _ => return Ok(Outcome::SoldOut),
            }
        }
    }

    /// Sends one request, two at the same time, or one after an aborted first attempt.
    async fn reserve(&mut self) -> Result<Reserved, Stopped> {
        let sale = Arc::clone(&self.sale);
        let first = self.visits == 1;
        let ask = self.ask_to_reserve(first && self.shopper.hangs_up);
        let answer = if first && self.shopper.hangs_up {
            let after = Duration::from_micros(self.shopper.rng.u64(..5000));
            sale.shop.hang_up_on(&ask, after).await;
            sale.shop.ask(&ask).await?
        } else if first && self.shopper.clicks_twice {
            let (one, other) = tokio::join!(sale.shop.ask(&ask), sale.shop.ask(&ask));
            match (one?, other?) {
                (Answer::Refused { .. }, made @ Answer::Done(_)) => made,
                (Answer::Unknown, other) => other,
                (one, _) => one,
            }
        } else {
            sale.shop.ask(&ask).await?
        };
        let id = match &answer {
            Answer::Done(body) => body["id"].as_i64(),
            Answer::Refused { code, body } if code == "already_reserved" => {
                body["reservation_id"].as_i64()
            }
            _ => None,
        };
        Ok(match (id, answer) {
            (Some(id), _) => Reserved::Hold(self.holds(id)),
            (None, Answer::Refused { code, body }) => Reserved::Refused { code, body },
            (None, _) => Reserved::Unknown,
        })
    }

    fn ask_to_reserve(&self, with_key: bool) -> Ask {
        let Shopper { user, quantity, .. } = self.shopper;
        let product = self.product.id;
        Ask {
            path: "/reservations".to_owned(),
            body: Some(json!({"product_id": product, "user_id": user, "quantity": quantity})),
            // The product is new, so the key is unique.
            idempotency_key: with_key.then(|| format!("demo-{product}-{user}")),
        }
    }

    fn holds(&self, id: i64) -> Hold {
        let hold = Hold {
            id,
            product: self.product.id,
            quantity: self.shopper.quantity,
            // Later than the service's deadline, because the hold was created before the answer came.
            deadline: Instant::now() + self.sale.times.hold,
            end: None,
        };
        self.sale.journal.open().held(hold);
        hold
    }

    /// Joins the waitlist, and waits until units are offered or the sale is over.
    async fn wait_in_line(mut self) -> Result<Outcome, Stopped> {
        let Shopper { user, quantity, .. } = self.shopper;
        let product = self.product.id;
        let join = Ask {
            path: format!("/products/{product}/waitlist"),
            body: Some(json!({"user_id": user, "quantity": quantity})),
            idempotency_key: Some(format!("demo-waitlist-{product}-{user}")),
        };
        let mut entry = match self.sale.shop.ask(&join).await? {
            Answer::Done(entry) => entry,
            Answer::Refused { .. } => return Ok(Outcome::SoldOut),
            Answer::Unknown => return Ok(Outcome::NoAnswer),
        };
        self.sale.journal.open().waited += 1;
        let path = format!("/waitlist/{}", entry["id"]);
        while entry["status"] == "WAITING" && !self.sale.is_over_in(Duration::ZERO) {
            self.think(0.1..0.3).await?;
            entry = self.sale.shop.read(&path).await.unwrap_or(entry);
        }
        if entry["status"] == "WAITING" {
            let leave = Ask {
                path: format!("{path}/leave"),
                body: None,
                idempotency_key: None,
            };
            entry = match self.sale.shop.ask(&leave).await? {
                Answer::Done(entry) => entry,
                // Units were offered in the meantime: the refusal names the hold.
                Answer::Refused { body, .. } => body,
                Answer::Unknown => return Ok(Outcome::NoAnswer),
            };
        }
        let Some(id) = entry["reservation_id"].as_i64() else {
            return Ok(Outcome::WaitedInVain);
        };
        self.sale.journal.open().offered += 1;
        self.was_offered = true;
        let hold = self.holds(id);
        self.decide(hold).await
    }

    async fn decide(mut self, hold: Hold) -> Result<Outcome, Stopped> {
        match self.shopper.intention {
            Intention::Pay => {
                self.think(0.1..0.6).await?;
                self.pay(hold).await
            }
            Intention::PayLate => {
                self.think(1.02..1.15).await?;
                self.pay(hold).await
            }
            Intention::Cancel => {
                self.think(0.05..0.5).await?;
                self.cancel(hold).await
            }
            Intention::WalkAway => Ok(Outcome::WalkedAway),
        }
    }

    /// The payment succeeded: confirms the hold, or reacquires it after the deadline if units are free. Otherwise it
    /// is refunded.
    async fn pay(self, hold: Hold) -> Result<Outcome, Stopped> {
        self.sale.journal.open().asks_to_sell(&hold);
        let in_time = self.confirm(&hold, None).await?;
        let late = match &in_time {
            Answer::Refused { code, .. } if code == "reservation_expired" => {
                let late = json!({"reacquire": true});
                Some(self.confirm(&hold, Some(late)).await?)
            }
            _ => None,
        };
        let mut journal = self.sale.journal.open();
        match (in_time, late) {
            (Answer::Done(_), _) => {
                journal.answered(&hold);
                journal.ended(&hold, End::Confirmed);
                Ok(match (self.was_offered, self.was_sold_out) {
                    (true, _) => Outcome::BoughtWhenOffered,
                    (false, true) => Outcome::BoughtAtLast,
                    (false, false) => Outcome::Bought,
                })
            }
            (_, Some(Answer::Done(sold))) => {
                journal.answered(&hold);
                let id = sold["id"].as_i64().unwrap_or_default();
                journal.held(Hold {
                    id,
                    end: Some(End::PaidLate),
                    ..hold
                });
                Ok(Outcome::PaidLate)
            }
            (Answer::Unknown, _) | (_, Some(Answer::Unknown)) => Ok(Outcome::NoAnswer),
            (Answer::Refused { .. }, _) => {
                journal.answered(&hold);
                Ok(Outcome::PaidBack)
            }
        }
    }

    async fn confirm(&self, hold: &Hold, body: Option<Value>) -> Result<Answer, Stopped> {
        self.act("confirm", hold, body).await
    }

    async fn cancel(self, hold: Hold) -> Result<Outcome, Stopped> {
        Ok(match self.act("cancel", &hold, None).await? {
            Answer::Done(_) => {
                self.sale.journal.open().ended(&hold, End::Canceled);
                Outcome::ChangedTheirMind
            }
            // Too late to cancel: the hold has expired.
            Answer::Refused { .. } => Outcome::WalkedAway,
            Answer::Unknown => Outcome::NoAnswer,
        })
    }

    async fn act(&self, verb: &str, hold: &Hold, body: Option<Value>) -> Result<Answer, Stopped> {
        let ask = Ask {
            path: format!("/reservations/{}/{verb}", hold.id),
            body,
            idempotency_key: None,
        };
        self.sale.shop.ask(&ask).await
    }

    async fn think(&mut self, parts: Range<f64>) -> Result<(), Stopped> {
        let pause = self.some(parts);
        self.sale.shop.pause(pause).await
    }

    /// A random part of the duration of a hold.
    fn some(&mut self, parts: Range<f64>) -> Duration {
        let part = parts.start + (parts.end - parts.start) * self.shopper.rng.f64();
        self.sale.times.hold.mul_f64(part)
    }
}
