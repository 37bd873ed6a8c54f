//! Waitlists over HTTP: joining, reading, leaving, and who is served.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Folder, Redis, System, assert_fields, assert_utc, id, output, test_server,
};

async fn join(system: &System, product: i64, body: Value) -> Answer {
    let path = format!("/products/{product}/waitlist");
    system.post_json(&path, &body).await
}

async fn entry(system: &System, of: &Value) -> Value {
    system
        .get(&format!("/waitlist/{}", id(of)))
        .await
        .expect(200)
}

async fn leave(system: &System, of: &Value) -> Answer {
    system.post(&format!("/waitlist/{}/leave", id(of))).await
}

#[tokio::test]
async fn who_waits_first_gets_the_unit_and_nobody_else() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 1).await;
    let refusal = system.try_reserve(product, 2).await;
    refusal.expect_problem(409, "sold_out");
    assert_eq!(system.product(product).await.get("waiting"), None);

    let wish = json!({"user_id": 2, "reference": "order-7"});
    let joined = join(&system, product, wish.clone()).await;
    let location = joined.header("location").to_owned();
    let first = joined.expect(201);
    assert_eq!(location, format!("/waitlist/{}", id(&first)));
    assert_fields(
        &first,
        &[
            "id",
            "product_id",
            "user_id",
            "quantity",
            "status",
            "position",
            "reference",
            "created_at",
        ],
    );
    assert_eq!(
        (&first["status"], &first["position"], &first["quantity"]),
        (&json!("WAITING"), &json!(1), &json!(1))
    );
    assert_eq!(entry(&system, &first).await, first);
    let second = join(&system, product, json!({"user_id": 3}))
        .await
        .expect(201);
    assert_eq!(second["position"], 2);
    assert_eq!(system.product(product).await["waiting"], 2);

    // A retry finds the entry, and a holder cannot wait.
    let again = join(&system, product, wish).await;
    let again = again.expect_problem(409, "already_waiting");
    assert_eq!(again["entry_id"], first["id"]);
    let held = join(&system, product, json!({"user_id": 1})).await;
    let held = held.expect_problem(409, "already_reserved");
    assert_eq!(held["reservation_id"], hold["id"]);

    let refusal = system.try_reserve(product, 4).await;
    let refusal = refusal.expect_problem_with(409, "sold_out", &["waitlist"]);
    assert_eq!(
        (&refusal["waitlist"], &refusal["stock"]),
        (&json!(true), &json!(0))
    );
    let other = system.create_product(1).await;
    let items = json!({"user_id": 4, "items": [{"product_id": other}, {"product_id": product}]});
    let refusal = system.post_json("/reservations/batch", &items).await;
    refusal.expect_problem_with(409, "sold_out", &["waitlist", "product_id"]);

    system.cancel(&hold).await;
    let offered = entry(&system, &first).await;
    assert_fields(
        &offered,
        &[
            "id",
            "product_id",
            "user_id",
            "quantity",
            "status",
            "reservation_id",
            "reference",
            "created_at",
            "ended_at",
        ],
    );
    assert_eq!(offered["status"], "OFFERED");
    assert_utc(&offered["ended_at"]);
    let won = json!({"id": offered["reservation_id"]});
    let won = system.look_up(&won).await;
    assert_eq!(
        (&won["status"], &won["user_id"], &won["reference"]),
        (&json!("ACTIVE"), &json!(2), &json!("order-7"))
    );
    assert_eq!(entry(&system, &second).await["position"], 1);
    system.confirm(&won).await;
    let created = system.metric("flashsale_reservations_created_total").await;
    assert_eq!(created, 2.0, "the hold of user 1, and the offered one");
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn an_entry_ends_once_and_says_how() {
    let system = System::start().await;
    let product = system.create_product(0).await;
    let first = join(&system, product, json!({"user_id": 1}))
        .await
        .expect(201);
    let second = join(&system, product, json!({"user_id": 2, "quantity": 2}))
        .await
        .expect(201);
    let left = leave(&system, &first).await.expect(200);
    assert_eq!(left["status"], "LEFT");
    assert_utc(&left["ended_at"]);
    assert_eq!(leave(&system, &first).await.expect(200), left);
    assert_eq!(entry(&system, &first).await, left);

    let path = format!("/products/{product}/stock");
    let more = json!({"delta": 2, "reason": "found"});
    let adjusted = system.admin_json(Method::POST, &path, &more).await;
    assert_eq!(adjusted.expect(200)["held"], 2);
    let offered = entry(&system, &second).await;
    let late = leave(&system, &second).await;
    let late = late.expect_problem(409, "waitlist_entry_offered");
    assert_eq!(late["reservation_id"], offered["reservation_id"]);

    let third = join(&system, product, json!({"user_id": 3}))
        .await
        .expect(201);
    let ended = json!({"sale_ends_at": "2000-01-01T00:00:00Z"});
    let path = format!("/products/{product}");
    let changed = system.admin_json(Method::PATCH, &path, &ended).await;
    assert_eq!(changed.expect(200).get("waiting"), None);
    assert_eq!(entry(&system, &third).await["status"], "CLOSED");
    let late = leave(&system, &third).await;
    late.expect_problem(409, "waitlist_entry_closed");
    let late = join(&system, product, json!({"user_id": 4})).await;
    late.expect_problem(409, "sale_closed");
    for path in ["/waitlist/999/leave", "/waitlist/x/leave"] {
        let unknown = system.post(path).await;
        unknown.expect_problem(404, "waitlist_entry_not_found");
    }
    let unknown = system.get("/waitlist/999").await;
    unknown.expect_problem(404, "waitlist_entry_not_found");
    let unknown = join(&system, 999, json!({"user_id": 1})).await;
    unknown.expect_problem(404, "product_not_found");
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn a_line_can_be_read_page_by_page() {
    let system = System::start().await;
    let [product, other] = [
        system.create_product(0).await,
        system.create_product(0).await,
    ];
    let mut entries = Vec::new();
    for user in 1..=5 {
        let body = json!({"user_id": user});
        entries.push(join(&system, product, body.clone()).await.expect(201));
        join(&system, other, body).await.expect(201);
    }
    leave(&system, &entries[1]).await.expect(200);
    let mut path = format!("/waitlist?product_id={product}&status=WAITING&limit=3");
    let mut line = Vec::new();
    loop {
        let page = system.get(&path).await;
        line.extend(page.expect(200).as_array().unwrap().clone());
        let link = page.header("link").to_owned();
        let Some((next, _)) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else {
            break;
        };
        next.clone_into(&mut path);
    }
    let users: Vec<_> = line.iter().map(|entry| entry["user_id"].as_i64()).collect();
    assert_eq!(users, [1, 3, 4, 5].map(Some));
    let places: Vec<_> = line
        .iter()
        .map(|entry| entry["position"].as_i64())
        .collect();
    assert_eq!(places, [1, 2, 3, 4].map(Some));
    let of_user = system.get("/waitlist?user_id=2").await.expect(200);
    assert_eq!(of_user.as_array().unwrap().len(), 2);
    let newest = format!("/waitlist?product_id={product}&order=newest&limit=2");
    let newest = system.get(&newest).await.expect(200);
    assert_eq!(
        (&newest[0]["user_id"], &newest[1]["user_id"]),
        (&json!(5), &json!(4))
    );
    for query in [
        "status=ACTIVE",
        "order=up",
        "offset=1",
        "sku=",
        "sku=a%20b",
        "sku=MUG&product_id=1",
        "user_id=0",
        "limit=101",
        "x=1",
    ] {
        let refused = system.get(&format!("/waitlist?{query}")).await;
        refused.expect_problem(400, "invalid_query");
    }
}

#[tokio::test]
async fn the_body_or_the_query_can_name_the_product_also_by_its_sku() {
    let system = System::start().await;
    let create = async |sku: &str| {
        let body = json!({"name": "mug", "stock": 0, "sku": sku});
        id(&system.post_json("/products", &body).await.expect(201))
    };
    let join = async |body: Value| system.post_json("/waitlist", &body).await;
    let listed = async |query: &str| {
        let list = system.get(&format!("/waitlist?{query}")).await.expect(200);
        let users = list.as_array().unwrap().iter();
        users
            .map(|entry| entry["user_id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    let (mug, cup) = (create("MUG/1").await, create("CUP").await);
    let wish = json!({"sku": "MUG/1", "user_id": 1, "quantity": 2, "reference": "order-7"});
    let joined = join(wish.clone()).await;
    let location = joined.header("location").to_owned();
    let first = joined.expect(201);
    assert_eq!(location, format!("/waitlist/{}", id(&first)));
    assert_eq!(entry(&system, &first).await, first);
    assert_eq!(
        (&first["product_id"], &first["quantity"], &first["position"]),
        (&json!(mug), &json!(2), &json!(1))
    );
    assert_eq!(first["reference"], "order-7");
    let second = join(json!({"product_id": mug, "user_id": 2})).await;
    assert_eq!(second.expect(201)["position"], 2);
    join(json!({"sku": "CUP", "user_id": 3})).await.expect(201);
    // It is the same line.
    let again = join(wish).await.expect_problem(409, "already_waiting");
    assert_eq!(again["entry_id"], first["id"]);
    let path = format!("/products/{mug}/waitlist");
    let again = system.post_json(&path, &json!({"user_id": 2})).await;
    again.expect_problem(409, "already_waiting");
    assert_eq!(listed("sku=MUG%2F1").await, [1, 2]);
    assert_eq!(listed("sku=MUG%2F1&order=newest&limit=1").await, [2]);
    assert_eq!(listed("sku=CUP&status=WAITING").await, [3]);
    assert_eq!(listed("sku=CUP&user_id=1").await, [] as [i64; 0]);
    assert_eq!(listed("sku=FORK").await, [] as [i64; 0]);

    for (body, pointer) in [
        (json!({"user_id": 9}), "/product_id"),
        (
            json!({"sku": "CUP", "product_id": cup, "user_id": 9}),
            "/sku",
        ),
        (json!({"sku": null, "user_id": 9}), "/sku"),
        (json!({"sku": "a b", "user_id": 9}), "/sku"),
        (json!({"product_id": 0, "user_id": 9}), "/product_id"),
        (json!({"sku": "CUP"}), "/user_id"),
    ] {
        let problem = join(body.clone()).await;
        let problem = problem.expect_problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    for body in [
        json!({"sku": "FORK", "user_id": 9}),
        json!({"product_id": 999, "user_id": 9}),
    ] {
        join(body).await.expect_problem(404, "product_not_found");
    }
    // It may be created later.
    let fork = create("FORK").await;
    let late = join(json!({"sku": "FORK", "user_id": 9})).await;
    assert_eq!(late.expect(201)["product_id"], fork);
    assert_eq!(listed("sku=FORK").await, [9]);
    system.assert_clean_audit().await;
}

/// Changed rules, units that are not free, and an import: the counters in Redis and those of the process know each offer.
#[tokio::test]
async fn every_offered_hold_is_counted() {
    let (system, folder) = (System::start().await, Folder::new());
    let body = json!({"name": "mug", "sku": "MUG", "stock": 1});
    let mug = system.admin_json(Method::POST, "/products", &body).await;
    let mug = id(&mug.expect(201));
    let hold = system.reserve(mug, 1).await;
    for user in 2..=4 {
        let wish = json!({"user_id": user});
        join(&system, mug, wish).await.expect(201);
    }
    // Before the sale, the unit stays free.
    let path = format!("/products/{mug}");
    let rule = json!({"sale_starts_at": "2036-01-01T00:00:00Z"});
    let closed = system.admin_json(Method::PATCH, &path, &rule).await;
    closed.expect(200);
    system.cancel(&hold).await;
    let rule = json!({"sale_starts_at": null});
    let opened = system.admin_json(Method::PATCH, &path, &rule).await;
    assert_eq!(opened.expect(200)["stock"], 0);
    // The due unit is for the line.
    let offered = system.get("/reservations?user_id=2").await.expect(200);
    system.backdate(&offered[0]).await;
    let fewer = json!({"delta": -1, "reason": "lost"});
    let stock = format!("{path}/stock");
    let refused = system.admin_json(Method::POST, &stock, &fewer).await;
    refused.expect_problem(409, "insufficient_stock");

    let mut redis = Redis::at(&test_server("TEST_REDIS_URL")).await;
    let created = format!("GET {}metrics:reservations:created", system.redis_prefix());
    redis.answers(&created, Some(3)).await;
    let metric = system.metric("flashsale_reservations_created_total").await;
    assert_eq!(metric, 3.0);

    let file = folder.path().join("products");
    std::fs::write(&file, "sku,stock\nMUG,2\n").unwrap();
    let imported = output(
        "flashsale-api",
        &["import", file.to_str().unwrap()],
        &[
            ("DATABASE_URL", &system.database.url),
            ("REDIS_URL", &test_server("TEST_REDIS_URL")),
            ("REDIS_KEY_PREFIX", system.redis_prefix()),
        ],
    );
    assert!(imported.status.success(), "{imported:?}");
    redis.answers(&created, Some(4)).await;
    let all = sqlx::query_scalar::<_, i64>("select count(*) from reservations")
        .fetch_one(&system.database.pool)
        .await
        .unwrap();
    assert_eq!(all, 4);
    system.assert_clean_audit().await;
}
