//! What goes along with a product, and what each cell says afterwards.

use reqwest::Method;
use serde_json::{Value, json};

use super::stage::{Cells, IDS, nothing};
use crate::support::{Answer, Client, Redis, System, eventually, id, test_server};

const ALL_EVENTS: (&str, &str) = (
    "OUTBOX_EVENTS",
    "ReservationCreated,ReservationConfirmed,ReservationCanceled,ReservationExpired,ReservationReturned,StockAdjusted,\
     WaitlistOffered",
);

async fn keyed(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    let request = client.request(Method::POST, path).json(body);
    client
        .as_admin(request.header("idempotency-key", key))
        .await
}

async fn join(client: &Client, product: i64, user: i64) -> Value {
    let path = format!("/products/{product}/waitlist");
    client
        .post_json(&path, &json!({"user_id": user}))
        .await
        .expect(201)
}

/// The requests with keys of this test.
fn requests(product: i64) -> [(String, &'static str, Value); 4] {
    let stock = json!({"delta": 2, "reason": "found"});
    [
        (
            "/reservations".to_owned(),
            "hold",
            json!({"product_id": product, "user_id": 30}),
        ),
        (
            "/reservations".to_owned(),
            "again",
            json!({"product_id": product, "user_id": 30}),
        ),
        (
            "/reservations/batch".to_owned(),
            "both",
            json!({"user_id": 31, "items": [{"product_id": product}]}),
        ),
        (format!("/products/{product}/stock"), "found", stock),
    ]
}

struct Sale {
    product: i64,
    held: Value,
    sold: Value,
    canceled: Value,
    returned: Value,
    expired: Value,
    waiting: Value,
    answers: Vec<Answer>,
}

/// A product with rows of every kind, of which somebody waits for a unit.
async fn sale(cell: &System) -> Sale {
    let body = json!({
        "name": "iPhone 15", "sku": "IPH-15", "stock": 8, "max_per_user": 1, "hold_seconds": 600,
        "sale_ends_at": "2099-01-01T00:00:00Z",
    });
    let product = id(&cell
        .admin_json(Method::POST, "/products", &body)
        .await
        .expect(201));
    let [held, sold, canceled, returned, expired] = [
        cell.reserve(product, 1).await,
        cell.reserve(product, 2).await,
        cell.reserve(product, 3).await,
        cell.reserve(product, 4).await,
        cell.reserve(product, 5).await,
    ];
    cell.confirm(&sold).await;
    cell.confirm(&returned).await;
    cell.post(&format!("/reservations/{}/return", id(&returned)))
        .await
        .expect(200);
    cell.cancel(&canceled).await;
    cell.backdate(&expired).await;
    assert_eq!(cell.expire_once().await, 1);
    let mut answers = Vec::new();
    for (path, key, body) in requests(product) {
        answers.push(keyed(cell, &path, key, &body).await);
    }
    for user in 20.. {
        if cell.try_reserve(product, user).await.status == 409 {
            break;
        }
    }
    let left = join(cell, product, 40).await;
    cell.post(&format!("/waitlist/{}/leave", id(&left)))
        .await
        .expect(200);
    join(cell, product, 41).await;
    let waiting = join(cell, product, 42).await;
    cell.cancel(&held).await;
    // Nobody waits in the name of user 42 alone: 41 was offered the unit of the canceled hold.
    let held = cell
        .list(&format!("product_id={product}&user_id=41"))
        .await
        .remove(0);
    assert_eq!(held["status"], "ACTIVE");
    Sale {
        product,
        held,
        sold,
        canceled,
        returned,
        expired,
        waiting,
        answers,
    }
}

#[tokio::test]
async fn everything_of_a_product_goes_along() {
    let cells = Cells::start(&[ALL_EVENTS]).await;
    let other = cells.old.create_product(5).await;
    let stays = cells.old.reserve(other, 1).await;
    let sale = sale(&cells.old).await;
    let product = sale.product;
    // As if the requests were traced.
    cells
        .old
        .database
        .execute("update outbox_events set traceparent = '00-trace-' || id || '-01'")
        .await;
    let [before, in_new] = cells.rows(product).await;
    assert_eq!(in_new, nothing());
    for kind in [
        "product",
        "reservations",
        "adjustments",
        "entries",
        "lines",
        "events",
    ] {
        assert!(before[kind].is_array(), "{kind}: {before}");
    }
    counters_are_right(&cells).await;
    let seen = cells.old.product(product).await;
    cells.moves(product).await;
    assert_eq!(cells.rows(product).await, [nothing(), before]);
    assert_eq!(cells.new.product(product).await, seen);
    cells.assert_clean_audits().await;
    counters_are_right(&cells).await;

    // The old cell says where it is, whatever a request names.
    let old = cells.old.client();
    for path in [
        format!("/products/{product}"),
        format!("/reservations/{}", id(&sale.held)),
        format!("/reservations/{}", id(&sale.sold)),
    ] {
        assert_eq!(
            old.get(&path).await.expect_problem(421, "product_moved")["cell"],
            1
        );
    }
    for (path, body) in [
        (
            "/reservations",
            json!({"product_id": product, "user_id": 9}),
        ),
        ("/reservations", json!({"sku": "IPH-15", "user_id": 9})),
        ("/waitlist", json!({"sku": "IPH-15", "user_id": 9})),
        ("/waitlist", json!({"product_id": product, "user_id": 9})),
        (
            "/reservations/batch",
            json!({"user_id": 9, "items": [{"product_id": other}, {"product_id": product}]}),
        ),
        (
            "/reservations/batch",
            json!({"user_id": 9, "items": [{"sku": "IPH-15"}]}),
        ),
        (
            "/reservations/batch/confirm",
            json!({"ids": [id(&sale.held)]}),
        ),
        (
            &format!("/reservations/{}/extend", id(&sale.held)),
            json!({"seconds": 60}),
        ),
        (
            &format!("/products/{product}/waitlist"),
            json!({"user_id": 9}),
        ),
    ] {
        // Also with a key, when the refusal is stored and repeated.
        for _ in 0..2 {
            keyed(&old, path, &format!("{path}{body}"), &body)
                .await
                .expect_problem(421, "product_moved");
        }
        old.post_json(path, &body)
            .await
            .expect_problem(421, "product_moved");
    }
    for verb in ["confirm", "cancel", "return"] {
        let path = format!("/reservations/{}/{verb}", id(&sale.sold));
        old.post(&path).await.expect_problem(421, "product_moved");
    }
    old.get("/products/9999")
        .await
        .expect_problem(404, "product_not_found");
    old.get("/reservations/9999")
        .await
        .expect_problem(404, "reservation_not_found");
    old.confirm(&stays).await;
    assert_eq!(
        old.list(&format!("product_id={product}")).await,
        [json!(null); 0]
    );
    assert_eq!(old.get("/products?sku=IPH-15").await.expect(200), json!([]));

    goes_on(&cells, &sale).await;
}

/// In the new cell, the sale goes on as it would have in the old one.
async fn goes_on(cells: &Cells, sale: &Sale) {
    let (new, product) = (&cells.new, sale.product);
    for ((path, key, body), first) in requests(product).iter().zip(&sale.answers) {
        let again = keyed(new, path, key, body).await;
        assert_eq!(
            (again.status, &again.text),
            (first.status, &first.text),
            "{key}"
        );
        assert_eq!(again.header("idempotency-replayed"), "true", "{key}");
    }
    assert_eq!(new.look_up(&sale.canceled).await["status"], "CANCELED");
    assert_eq!(new.look_up(&sale.returned).await["status"], "RETURNED");
    new.try_confirm(&sale.expired)
        .await
        .expect_problem(409, "reservation_expired");
    // The limit of a user counts what was bought in the old cell. The line is served in its order.
    new.try_reserve(product, 50)
        .await
        .expect_problem_with(409, "sold_out", &["waitlist"]);
    join(new, product, 43).await;
    new.backdate(&sale.held).await;
    assert_eq!(new.expire_once().await, 1);
    let served = new
        .list(&format!("product_id={product}&user_id=42&status=ACTIVE"))
        .await;
    assert_eq!(served.len(), 1, "{}", sale.waiting);
    assert!(id(&served[0]) > IDS, "an id of the new cell");
    new.confirm(&served[0]).await;
    new.assert_clean_audit().await;
}

/// The counters in Redis are those of the rows.
async fn counters_are_right(cells: &Cells) {
    let mut redis = Redis::at(&test_server("TEST_REDIS_URL")).await;
    for cell in [&cells.old, &cells.new] {
        let created: i64 = sqlx::query_scalar("select count(*) from reservations")
            .fetch_one(&cell.database.pool)
            .await
            .unwrap();
        let counter = format!("get {}metrics:reservations:created", cell.redis_prefix());
        eventually("the counters", async || {
            (redis.ask::<Option<i64>>(&counter).await.unwrap_or(0) == created).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_product_can_come_back_and_leave_again() {
    let cells = Cells::start(&[]).await;
    let product = cells.old.create_product(5).await;
    let hold = cells.old.reserve(product, 1).await;
    cells.moves(product).await;
    cells.new.confirm(&hold).await;
    let [_, there] = cells.rows(product).await;
    let back = cells.run_back(product).await;
    assert!(back.status.success(), "{back:?}");
    assert_eq!(cells.rows(product).await, [there, nothing()]);
    cells
        .old
        .post(&format!("/reservations/{}/return", id(&hold)))
        .await
        .expect(200);
    let moved = cells.new.try_reserve(product, 2).await;
    assert_eq!(moved.expect_problem(421, "product_moved")["cell"], 0);
    let [here, _] = cells.rows(product).await;
    cells.moves(product).await;
    assert_eq!(cells.rows(product).await, [nothing(), here]);
    assert_eq!(cells.new.look_up(&hold).await["status"], "RETURNED");
    cells.assert_clean_audits().await;
}

/// Events that the old cell's relay has sent, or given up, stay there.
#[tokio::test]
async fn each_event_is_published_by_one_cell() {
    let cells = Cells::start(&[]).await;
    let product = cells.old.create_product(9).await;
    for user in 1..=5 {
        let hold = cells.old.reserve(product, user).await;
        cells.old.confirm(&hold).await;
    }
    cells
        .old
        .database
        .execute(
            "update outbox_events set published_at = now() where id = 1;
            update outbox_events set last_error = 'sent, but not confirmed', next_attempt_at = now() + interval '9 s'
                where id = 2;
            update outbox_events set dead_at = now() where id = 3",
        )
        .await;
    let before = events(&cells.old).await;
    cells.moves(product).await;
    assert_eq!(events(&cells.old).await, before[..3]);
    assert_eq!(events(&cells.new).await, before[3..]);
}

async fn events(cell: &System) -> Vec<String> {
    sqlx::query_scalar("select event_id::text from outbox_events order by id")
        .fetch_all(&cell.database.pool)
        .await
        .unwrap()
}
