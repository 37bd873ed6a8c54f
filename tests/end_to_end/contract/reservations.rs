//! `/reservations`: the life of a hold, and every refusal.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{System, assert_fields, assert_utc, eventually, id};

const FIELDS: [&str; 7] = [
    "id",
    "product_id",
    "user_id",
    "quantity",
    "status",
    "expires_at",
    "created_at",
];

#[track_caller]
fn assert_reservation(reservation: &Value, status: &str, end: Option<&str>) {
    let fields: Vec<&str> = FIELDS.into_iter().chain(end).collect();
    assert_fields(reservation, &fields);
    assert_eq!(reservation["status"], status, "{reservation}");
    for time in ["created_at", "expires_at"].into_iter().chain(end) {
        assert_utc(&reservation[time]);
    }
}

#[tokio::test]
async fn a_hold_is_one_unit_for_five_minutes() {
    let system = System::start().await;
    let product = system.create_product(2).await;
    let answer = system.try_reserve(product, 42).await;
    let hold = answer.expect(201);
    assert_reservation(&hold, "ACTIVE", None);
    assert_eq!(hold["product_id"], product);
    assert_eq!(hold["user_id"], 42);
    assert_eq!(hold["quantity"], 1);
    let lasts = assert_utc(&hold["expires_at"]) - assert_utc(&hold["created_at"]);
    assert_eq!(lasts, Duration::from_secs(300));
    let location = format!("/reservations/{}", id(&hold));
    assert_eq!(answer.header("location"), location);
    assert_eq!(system.get(&location).await.expect(200), hold);
}

#[tokio::test]
async fn the_length_of_a_hold_is_a_setting() {
    let system = System::with(&[("HOLD_SECONDS", "7")]).await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    let lasts = assert_utc(&hold["expires_at"]) - assert_utc(&hold["created_at"]);
    assert_eq!(lasts, Duration::from_secs(7));
}

#[tokio::test]
async fn a_hold_is_confirmed_once_however_often_it_is_asked() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    let confirmed = system.confirm(&hold).await;
    assert_reservation(&confirmed, "CONFIRMED", Some("confirmed_at"));
    assert_eq!(id(&confirmed), id(&hold));
    assert_eq!(system.confirm(&hold).await, confirmed);
    assert_eq!(system.look_up(&hold).await, confirmed);
    let refusal = system.try_cancel(&hold).await;
    refusal.expect_problem(409, "reservation_confirmed");
    assert_eq!(system.product(product).await["sold"], 1);
}

#[tokio::test]
async fn a_hold_is_canceled_once_however_often_it_is_asked() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    let canceled = system.cancel(&hold).await;
    assert_reservation(&canceled, "CANCELED", Some("canceled_at"));
    assert_eq!(system.cancel(&hold).await, canceled);
    assert_eq!(system.look_up(&hold).await, canceled);
    let refusal = system.try_confirm(&hold).await;
    refusal.expect_problem(409, "reservation_canceled");
    assert_eq!(system.stock(product).await, 1);
}

#[tokio::test]
async fn past_its_deadline_a_hold_is_expired_swept_or_not() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    system.backdate(&hold).await;
    let expired = system.look_up(&hold).await;
    assert_reservation(&expired, "EXPIRED", Some("expired_at"));
    assert_eq!(expired["expired_at"], expired["expires_at"]);
    let refused = async || {
        for refusal in [
            system.try_confirm(&hold).await,
            system.try_cancel(&hold).await,
        ] {
            refusal.expect_problem(409, "reservation_expired");
        }
    };
    refused().await;
    assert_eq!(system.expire_once().await, 1);
    refused().await;
    assert_eq!(system.look_up(&hold).await, expired);
    assert_eq!(system.stock(product).await, 1);
}

#[tokio::test]
async fn a_hold_expires_by_itself() {
    let system = System::with(&[("HOLD_SECONDS", "1")]).await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    let expired = eventually("the deadline", async || {
        let now = system.look_up(&hold).await;
        (now["status"] != "ACTIVE").then_some(now)
    })
    .await;
    assert_reservation(&expired, "EXPIRED", Some("expired_at"));
    // The unit is free for anyone, also without a sweep.
    system.reserve(product, 2).await;
}

#[tokio::test]
async fn a_user_holds_a_product_once() {
    let system = System::start().await;
    let product = system.create_product(2).await;
    let other = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    let refusal = system.try_reserve(product, 1).await;
    let problem = refusal.expect_problem(409, "already_reserved");
    assert_eq!(problem["reservation_id"], hold["id"]);
    assert_eq!(system.stock(product).await, 1);

    system.reserve(other, 1).await;
    system.reserve(product, 2).await;
    // Refusals have a fixed order: a user with a hold gets `already_reserved`, also when the product is sold out.
    let refusal = system.try_reserve(product, 1).await;
    refusal.expect_problem(409, "already_reserved");
    let refusal = system.try_reserve(product, 3).await;
    refusal.expect_problem(409, "sold_out");
}

#[tokio::test]
async fn every_end_of_a_hold_lets_its_user_reserve_again() {
    let system = System::start().await;
    let product = system.create_product(3).await;
    let confirmed = system.reserve(product, 1).await;
    system.confirm(&confirmed).await;
    let canceled = system.reserve(product, 1).await;
    system.cancel(&canceled).await;
    let expired = system.reserve(product, 1).await;
    system.backdate(&expired).await;
    let last = system.reserve(product, 1).await;
    assert_eq!(system.look_up(&last).await["status"], "ACTIVE");
    // The old reservation stays expired.
    let refusal = system.try_confirm(&expired).await;
    refusal.expect_problem(409, "reservation_expired");
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn a_due_unit_is_free_at_once_when_the_product_is_sold_out() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    let refusal = system.try_reserve(product, 2).await;
    refusal.expect_problem(409, "sold_out");
    system.backdate(&hold).await;
    system.reserve(product, 2).await;
    let refusal = system.try_reserve(product, 1).await;
    refusal.expect_problem(409, "sold_out");
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn a_product_that_is_not_there_cannot_be_reserved() {
    let system = System::start().await;
    for product in [1, i64::MAX] {
        let refusal = system.try_reserve(product, 1).await;
        refusal.expect_problem(404, "product_not_found");
    }
}

#[tokio::test]
async fn users_are_numbered_up_to_the_largest_bigint() {
    let system = System::start().await;
    let product = system.create_product(5).await;
    let hold = system.reserve(product, i64::MAX).await;
    assert_eq!(hold["user_id"], i64::MAX);
    let listed = system.list(&format!("user_id={}", i64::MAX)).await;
    assert_eq!(listed, [hold]);
}

#[tokio::test]
async fn what_is_no_id_of_a_reservation_is_not_found() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    system.reserve(product, 1).await;
    for no_id in super::routing::NO_IDS {
        let path = format!("/reservations/{no_id}");
        let (confirm, cancel) = (format!("{path}/confirm"), format!("{path}/cancel"));
        for answer in [
            system.get(&path).await,
            system.post(&confirm).await,
            system.post(&cancel).await,
        ] {
            answer.expect_problem(404, "reservation_not_found");
        }
    }
}

#[tokio::test]
async fn confirm_and_cancel_take_no_body_or_an_empty_object() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    for verb in ["confirm", "cancel"] {
        let path = format!("/reservations/{}/{verb}", id(&hold));
        let surplus = system.post_json(&path, &json!({"user_id": 1})).await;
        surplus.expect_problem(422, "invalid_request");
        let broken = system.post_raw(&path, "{").await;
        broken.expect_problem(400, "invalid_json");
        let large = system.post_raw(&path, vec![b' '; 16 * 1024 + 1]).await;
        large.expect_problem(413, "body_too_large");
    }
    assert_eq!(system.look_up(&hold).await["status"], "ACTIVE");
    let path = format!("/reservations/{}/confirm", id(&hold));
    system.post_json(&path, &json!({})).await.expect(200);
    system.post(&path).await.expect(200);
}
