//! A client in the middle of a storm: every answer must be right.

use std::iter::Sum;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::CLIENTS;
use crate::support::{Client, id};

/// Each client trades so often, however soon the storm is over.
const ROUNDS_MIN: i64 = 10;

/// What is left of it.
#[derive(Default)]
pub(super) struct Traded {
    pub(super) held: i64,
    pub(super) sold: i64,
}

impl Sum for Traded {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            held: sum.held + one.held,
            sold: sum.sold + one.sold,
        })
    }
}

/// Trades until the storm is over. All its holds are due, so there are units, swept or not: no reserve may be
/// refused.
pub(super) async fn trade(
    client: Client,
    product: i64,
    number: i64,
    storm_holds: i64,
    over: CancellationToken,
) -> Traded {
    let mut traded = Traded::default();
    let mut round = 0;
    while !over.is_cancelled() || round < ROUNDS_MIN {
        // From the end of the storm, where the sweep comes last.
        let late = storm_holds - number - round * CLIENTS;
        assert!(late > storm_holds / 2, "the storm goes on for ever");
        buy_too_late_and_again(&client, product, late).await;
        traded.sold += 1;

        let user = storm_holds + 1 + number + round * CLIENTS;
        let hold = client.reserve(product, user).await;
        let refused = client.try_reserve(product, user).await;
        let problem = refused.expect_problem(409, "already_reserved");
        assert_eq!(problem["reservation_id"], hold["id"]);
        if round % 2 == 0 {
            assert_eq!(client.cancel(&hold).await["status"], "CANCELED");
        } else {
            traded.held += 1;
        }
        round += 1;
    }
    traded
}

/// A user of the storm, whose hold has the user's own number, is late, and reserves anew.
async fn buy_too_late_and_again(client: &Client, product: i64, user: i64) {
    let old = json!({"id": user});
    let late = client.try_confirm(&old).await;
    late.expect_problem(409, "reservation_expired");
    let new = client.reserve(product, user).await;
    assert_ne!(id(&new), user);
    let late = client.try_confirm(&old).await;
    late.expect_problem(409, "reservation_expired");
    assert_eq!(client.confirm(&new).await["status"], "CONFIRMED");
    let old = client.look_up(&old).await;
    assert_eq!(old["status"], "EXPIRED");
    assert_eq!(old["expired_at"], old["expires_at"]);
}
