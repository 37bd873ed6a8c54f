//! Extensions, late payments, returns, and references of a reservation.

use reqwest::Method;
use serde_json::{Value, json};
use time::Duration;

use crate::support::{Answer, System, assert_utc, id};

async fn act(system: &System, hold: &Value, verb: &str, body: &Value) -> Answer {
    let path = format!("/reservations/{}/{verb}", id(hold));
    system.admin_json(Method::POST, &path, body).await
}

fn lasts(hold: &Value) -> Duration {
    assert_utc(&hold["expires_at"]) - assert_utc(&hold["created_at"])
}

#[tokio::test]
async fn a_hold_is_extended_up_to_its_longest_life() {
    let system = System::with(&[("MAX_HOLD_SECONDS", "500")]).await;
    let product = system.create_product(3).await;
    let hold = system.reserve(product, 1).await;
    let same = act(&system, &hold, "extend", &json!({"seconds": 1}))
        .await
        .expect(200);
    assert_eq!(same, hold);
    let later = act(&system, &hold, "extend", &json!({"seconds": 400}))
        .await
        .expect(200);
    assert!(lasts(&later) >= Duration::seconds(400) && lasts(&later) < Duration::seconds(500));
    let last = act(&system, &hold, "extend", &json!({"seconds": 2_147_483_647}))
        .await
        .expect(200);
    assert_eq!(lasts(&last), Duration::seconds(500));
    assert_eq!(system.look_up(&hold).await, last);
    // The product's own limit takes precedence.
    let own = json!({"max_hold_seconds": 600});
    system
        .admin_json(Method::PATCH, &format!("/products/{product}"), &own)
        .await
        .expect(200);
    let last = act(&system, &hold, "extend", &json!({"seconds": 9999}))
        .await
        .expect(200);
    assert_eq!(lasts(&last), Duration::seconds(600));

    for wrong in [
        json!({}),
        json!({"seconds": 0}),
        json!({"seconds": "1"}),
        json!({"seconds": 2_147_483_648_i64}),
    ] {
        act(&system, &hold, "extend", &wrong)
            .await
            .expect_problem(422, "invalid_request");
    }
    let ends: [(&str, &str); 2] = [
        ("confirm", "reservation_confirmed"),
        ("cancel", "reservation_canceled"),
    ];
    for (user, (verb, code)) in (2..).zip(ends) {
        let ended = system.reserve(product, user).await;
        act(&system, &ended, verb, &json!({})).await.expect(200);
        act(&system, &ended, "extend", &json!({"seconds": 9}))
            .await
            .expect_problem(409, code);
    }
    system.backdate(&hold).await;
    let refusal = act(&system, &hold, "extend", &json!({"seconds": 9})).await;
    refusal.expect_problem(409, "reservation_expired");
    let unknown = act(
        &system,
        &json!({"id": 999}),
        "extend",
        &json!({"seconds": 9}),
    )
    .await;
    unknown.expect_problem(404, "reservation_not_found");
}

#[tokio::test]
async fn a_late_payment_sells_again_where_units_are_free() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let late = json!({"reacquire": true});
    let hold = system.reserve(product, 1).await;
    system.backdate(&hold).await;
    for timely in [json!({}), json!({"reacquire": false})] {
        let refusal = act(&system, &hold, "confirm", &timely).await;
        refusal.expect_problem(409, "reservation_expired");
    }
    act(&system, &hold, "confirm", &json!({"reacquire": 1}))
        .await
        .expect_problem(422, "invalid_request");
    let other = system.reserve(product, 2).await;
    let refusal = act(&system, &hold, "confirm", &late).await;
    refusal.expect_problem(409, "expired_sold_out");
    system.cancel(&other).await;
    let again = act(&system, &hold, "confirm", &late).await.expect(200);
    assert_eq!(
        (&again["status"], &again["reacquired_from"]),
        (&json!("CONFIRMED"), &hold["id"])
    );
    assert_ne!(again["id"], hold["id"]);
    assert_eq!(
        act(&system, &hold, "confirm", &late).await.expect(200),
        again
    );
    assert_eq!(system.look_up(&again).await, again);
    assert_eq!(system.look_up(&hold).await["status"], "EXPIRED");
    assert_eq!(
        act(&system, &again, "confirm", &late).await.expect(200),
        again
    );
    let refusal = act(&system, &other, "confirm", &late).await;
    refusal.expect_problem(409, "reservation_canceled");
    // A payment before the deadline is an ordinary confirm.
    system
        .admin_json(
            Method::POST,
            &format!("/products/{product}/stock"),
            &json!({"delta": 1, "reason": "x"}),
        )
        .await
        .expect(200);
    let timely = system.reserve(product, 3).await;
    let sold = act(&system, &timely, "confirm", &late).await.expect(200);
    assert_eq!(
        (&sold["id"], &sold["reacquired_from"]),
        (&timely["id"], &Value::Null)
    );
    assert_eq!(
        system
            .metric("flashsale_reservations_confirmed_total")
            .await,
        2.0
    );
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn a_sale_is_returned_once() {
    let system = System::with(&[("ADMIN_TOKEN", "secret")]).await;
    let product = system.create_product(3).await;
    let hold = system.reserve(product, 1).await;
    let path = format!("/reservations/{}/return", id(&hold));
    system.post(&path).await.expect_problem(401, "unauthorized");
    let refusal = act(&system, &hold, "return", &json!({})).await;
    refusal.expect_problem(409, "reservation_not_confirmed");
    let sold = system.confirm(&hold).await;
    let returned = act(&system, &hold, "return", &json!({})).await.expect(200);
    assert_eq!(
        (&returned["status"], &returned["confirmed_at"]),
        (&json!("RETURNED"), &sold["confirmed_at"])
    );
    assert!(assert_utc(&returned["returned_at"]) >= assert_utc(&sold["confirmed_at"]));
    assert_eq!(
        act(&system, &hold, "return", &json!({})).await.expect(200),
        returned
    );
    assert_eq!(system.look_up(&hold).await, returned);
    assert_eq!(system.list("status=RETURNED").await, [returned]);
    assert_eq!(system.stock(product).await, 3);
    for refusal in [
        system.try_confirm(&hold).await,
        system.try_cancel(&hold).await,
    ] {
        refusal.expect_problem(409, "reservation_returned");
    }
    let canceled = system.reserve(product, 2).await;
    system.cancel(&canceled).await;
    let refusal = act(&system, &canceled, "return", &json!({})).await;
    refusal.expect_problem(409, "reservation_canceled");
    let lost = system.reserve(product, 3).await;
    system.backdate(&lost).await;
    let refusal = act(&system, &lost, "return", &json!({})).await;
    refusal.expect_problem(409, "reservation_expired");
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn a_reservation_is_found_by_the_shops_own_name_for_it() {
    let system = System::start().await;
    let product = system.create_product(5).await;
    let reserve = async |user: i64, reference: &str| {
        let body = json!({"product_id": product, "user_id": user, "reference": reference});
        system.post_json("/reservations", &body).await
    };
    let longest = "長".repeat(128);
    let [order, other] = [
        reserve(1, "order 7/ä").await.expect(201),
        reserve(2, &longest).await.expect(201),
    ];
    assert_eq!(order["reference"], "order 7/ä");
    assert_eq!(system.look_up(&order).await, order);
    let more = reserve(3, "order 7/ä").await.expect(201);
    assert_eq!(
        system.list("reference=order+7%2F%C3%A4").await,
        [more, order]
    );
    assert_eq!(
        system.list(&format!("reference={longest}&user_id=2")).await,
        [other]
    );
    assert_eq!(system.list("reference=order").await, [Value::Null; 0]);
    for wrong in ["", "nul\0", &"x".repeat(129)] {
        reserve(4, wrong)
            .await
            .expect_problem(422, "invalid_request");
    }
    for wrong in ["reference=", "reference=%00"] {
        let answer = system.get(&format!("/reservations?{wrong}")).await;
        answer.expect_problem(400, "invalid_query");
    }
}
