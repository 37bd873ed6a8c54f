//! A client that trades during a storm: every answer must be correct.

use std::iter::Sum;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::CLIENTS;
use crate::support::{Client, id};

/// Minimum number of rounds per client, even if the storm is over sooner.
const ROUNDS_MIN: i64 = 10;

/// The result of a client's trades.
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

/// Trades until the storm is over. All its holds are due, so units are available, swept or not: no reserve may be
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
        // From the end of the storm, which is swept last.
        let late = storm_holds - number - round * CLIENTS;
        assert!(late > storm_holds / 2, "the storm does not end");
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

/// A user of the storm confirms too late, and reserves again. The hold's id is the user's number.
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
