//! Admin routes and their access control.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::origins::OF_OTHER_SITES;
use crate::support::{Answer, DEAD_LETTER_FIELDS, System, assert_fields};

const TOKEN: &str = "a token with / and = in it";

/// One request to every admin route.
fn acts(system: &System) -> Vec<RequestBuilder> {
    let product = json!({"name": "x", "stock": 1});
    vec![
        system.request(Method::POST, "/products").json(&product),
        system
            .request(Method::PATCH, "/products/1")
            .json(&json!({"name": "y"})),
        system
            .request(Method::POST, "/products/1/stock")
            .json(&json!({"delta": 1, "reason": "found"})),
        system.request(Method::POST, "/admin/reservations/sync-expired"),
        system.request(Method::GET, "/admin/audit"),
        system.request(Method::GET, "/admin/live"),
        system.request(Method::POST, "/admin/counters/rebuild"),
        system.request(Method::GET, "/admin/outbox/dead"),
        system.request(Method::POST, "/admin/outbox/requeue"),
        system
            .request(Method::POST, "/admin/outbox/replay")
            .json(&json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"})),
    ]
}

async fn expect_all(system: &System, header: (&str, &str), status: u16, code: &str) {
    for act in acts(system) {
        let answer = Answer::to(act.header(header.0, header.1)).await;
        answer.expect_problem(status, code);
        let challenge = if status == 401 { "Bearer" } else { "" };
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
}

async fn expect_allowed(system: &System, header: (&str, &str)) {
    for act in acts(system) {
        let answer = Answer::to(act.header(header.0, header.1)).await;
        assert!(answer.status.is_success(), "{header:?}: {answer:?}");
    }
}

#[tokio::test]
async fn with_a_token_admin_acts_require_it() {
    let system = System::with(&[("ADMIN_TOKEN", TOKEN)]).await;
    let bearer = format!("Bearer {TOKEN}");
    for given in [
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        TOKEN,
        &bearer[..bearer.len() - 1],
        &format!("{bearer}x"),
        &bearer.to_lowercase().replace(" in ", " IN "),
        &format!("Basic {TOKEN}"),
        &format!("Bearer{TOKEN}"),
        &format!("Bearer {TOKEN}, {bearer}"),
    ] {
        expect_all(&system, ("authorization", given), 401, "unauthorized").await;
    }
    expect_all(&system, ("x-admin-token", TOKEN), 401, "unauthorized").await;
    assert_eq!(system.get("/products").await.expect(200), json!([]));

    expect_allowed(&system, ("authorization", &bearer)).await;
    // The scheme's name is not case-sensitive (RFC 9110).
    expect_allowed(&system, ("authorization", &format!("bearer {TOKEN}"))).await;
}

#[tokio::test]
async fn a_token_may_end_in_the_newline_that_echo_makes() {
    let system = System::with(&[("ADMIN_TOKEN", &format!("{TOKEN}\n"))]).await;
    expect_allowed(&system, ("authorization", &format!("Bearer {TOKEN}"))).await;
    expect_all(&system, ("authorization", "Bearer"), 401, "unauthorized").await;
}

#[tokio::test]
async fn a_token_also_holds_behind_a_proxy() {
    let system = System::with(&[("ADMIN_TOKEN", TOKEN)]).await;
    for act in acts(&system) {
        let request = act.bearer_auth(TOKEN).header("x-forwarded-for", "10.0.0.1");
        assert!(Answer::to(request).await.status.is_success());
    }
}

#[tokio::test]
async fn without_a_token_only_this_machine_may_do_admin_acts() {
    for settings in [&[][..], &[("ADMIN_TOKEN", "")]] {
        let system = System::with(settings).await;
        expect_allowed(&system, ("accept", "*/*")).await;
        for header in [
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "x-forwarded-anything",
            "Via",
            "X-Real-IP",
            "X-Client-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "Fastly-Client-IP",
            "X-Envoy-External-Address",
            "X-Amzn-Trace-Id",
            "X-Original-URL",
            "CDN-Loop",
            "Max-Forwards",
            "Proxy-Connection",
            // Of a product that nobody has heard of.
            "X-Some-Gateway",
        ] {
            expect_all(&system, (header, "127.0.0.1"), 403, "forbidden").await;
        }
        // What clients send by themselves.
        for header in [
            ("Accept-Language", "en"),
            ("Baggage", "a=b"),
            ("Cache-Control", "no-cache"),
            ("Cookie", "a=b"),
            ("Origin", &format!("http://{}", system.address())),
            ("Referer", "http://localhost/"),
            ("Sec-Fetch-Site", "same-origin"),
            (
                "Traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
            ("User-Agent", "curl/8"),
            ("X-Request-Id", "1"),
            ("X-Requested-With", "XMLHttpRequest"),
        ] {
            expect_allowed(&system, header).await;
        }
        // A foreign web page in a local browser: recognized by its Origin header, or by a host name that resolves to
        // this machine.
        for header in OF_OTHER_SITES.into_iter().chain([("Host", "api")]) {
            expect_all(&system, header, 403, "forbidden").await;
        }
        let here = format!("http://{}", system.address());
        expect_allowed(&system, ("Origin", &here)).await;
        for host in ["localhost", "LOCALHOST:8080", "[::1]:8080", "192.168.0.1"] {
            expect_allowed(&system, ("Host", host)).await;
        }
        // An empty token counts as none, and a request with an empty token is refused.
        let forwarded = system
            .request(Method::GET, "/admin/audit")
            .header("authorization", "Bearer ")
            .header("forwarded", "for=10.0.0.1");
        Answer::to(forwarded).await.expect_problem(403, "forbidden");
    }
}

#[tokio::test]
async fn without_a_token_nobody_may_when_the_api_listens_to_the_network() {
    let mut system = System::spawn(&[("LISTEN_ADDR", "0.0.0.0:0")]).await;
    system.child().logs("admin routes are closed").await;
    expect_all(&system, ("accept", "*/*"), 403, "forbidden").await;
    // All other routes are open.
    system.get("/products").await.expect(200);
    let reserve = system.try_reserve(1, 1).await;
    reserve.expect_problem(404, "product_not_found");
}

#[tokio::test]
async fn who_may_not_is_told_so_before_anything_is_read() {
    let system = System::with(&[("ADMIN_TOKEN", TOKEN)]).await;
    let answer = system.post_raw("/products", "nonsense").await;
    answer.expect_problem(401, "unauthorized");
}

#[tokio::test]
async fn sync_expired_ends_everything_that_is_due() {
    let system = System::start().await;
    let (phone, watch) = (
        system.create_product(9).await,
        system.create_product(9).await,
    );
    let sync = async || {
        let answer = system.post("/admin/reservations/sync-expired").await;
        answer.expect(200)
    };
    assert_eq!(sync().await, json!({"expired": 0}));
    for (product, user) in [(phone, 1), (phone, 2), (watch, 1)] {
        let hold = system.reserve(product, user).await;
        system.backdate(&hold).await;
    }
    let live = system.reserve(phone, 3).await;
    assert_eq!(sync().await, json!({"expired": 3}));
    assert_eq!(sync().await, json!({"expired": 0}));
    assert_eq!(system.look_up(&live).await["status"], "ACTIVE");
    assert_eq!(system.stock(phone).await, 8);
    system.assert_clean_audit().await;
}

/// An expirer need not wait for the disk. An answer does.
#[tokio::test]
async fn sync_expired_answers_when_its_work_is_on_disk() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    // A deferred trigger reads the setting when the transaction commits.
    sqlx::raw_sql(
        "create table commits (setting text);
        create function note_commit() returns trigger language plpgsql as $$
        begin
            insert into commits values (current_setting('synchronous_commit'));
            return null;
        end
        $$;
        create constraint trigger note_commit after insert on reservations_ended
            deferrable initially deferred for each row execute function note_commit()",
    )
    .execute(&system.database.pool)
    .await
    .unwrap();
    for key in [None, Some("sync-1")] {
        let hold = system.reserve(product, 1).await;
        system.backdate(&hold).await;
        let mut request = system.request(Method::POST, "/admin/reservations/sync-expired");
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let answer = system.as_admin(request).await;
        assert_eq!(answer.expect(200), json!({"expired": 1}));
        let settings: Vec<String> = sqlx::query_scalar("delete from commits returning setting")
            .fetch_all(&system.database.pool)
            .await
            .unwrap();
        assert_eq!(settings, ["on"], "{key:?}");
    }
}

#[tokio::test]
async fn sync_expired_is_not_bounded_by_one_batch() {
    let system = System::start().await;
    let product = system.create_product(2500).await;
    sqlx::query(
        "with holds as (
            insert into reservations (product_id, user_id, expires_at)
            select $1, n, clock_timestamp() - interval '1 s' from generate_series(1, 2500) n
        )
        update products set stock = 0, held = 2500 where id = $1",
    )
    .bind(product)
    .execute(&system.database.pool)
    .await
    .unwrap();
    let answer = system.post("/admin/reservations/sync-expired").await;
    assert_eq!(answer.expect(200), json!({"expired": 2500}));
    assert_eq!(system.stock(product).await, 2500);
}

#[tokio::test]
async fn a_sweep_that_could_not_end_everything_does_not_say_that_nothing_was_done() {
    let system = System::start().await;
    let (free, locked) = (
        system.create_product(1).await,
        system.create_product(1).await,
    );
    for product in [free, locked] {
        let hold = system.reserve(product, 1).await;
        system.database.backdate(&hold).await;
    }
    system.database.have_little_patience().await;
    let lock = system.database.lock_product(locked).await;
    let answer = system.post("/admin/reservations/sync-expired").await;
    answer.expect_problem(503, "outcome_unknown");
    assert_eq!(system.stock(free).await, 1);
    // Nothing is left to expire.
    let answer = system.post("/admin/reservations/sync-expired").await;
    answer.expect_problem(503, "overloaded");
    lock.rollback().await.unwrap();
    let answer = system.post("/admin/reservations/sync-expired").await;
    assert_eq!(answer.expect(200), json!({"expired": 1}));
}

#[tokio::test]
async fn a_requeue_that_stops_half_way_does_not_say_that_nothing_was_done() {
    let system = System::start().await;
    for statement in [
        "insert into outbox_events (event_type, payload, dead_at)
            select 'ReservationConfirmed', '{}', now() from generate_series(1, 1500)",
        "create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'not this one'; end $$",
        "create trigger refuse before update on outbox_events for each row when (old.id > 1200)
            execute function refuse()",
    ] {
        let done = sqlx::query(statement).execute(&system.database.pool).await;
        done.unwrap();
    }
    let answer = system.post("/admin/outbox/requeue").await;
    answer.expect_problem(503, "outcome_unknown");
    let answer = system.post("/admin/outbox/requeue").await;
    answer.expect_problem(503, "overloaded");
}

#[tokio::test]
async fn the_audit_shows_each_product_and_finds_every_difference() {
    let system = System::start().await;
    let product = system.create_product(5).await;
    let sold = system.reserve(product, 1).await;
    system.confirm(&sold).await;
    system.reserve(product, 2).await;
    let audit = system.get("/admin/audit").await.expect(200);
    assert_fields(&audit, &["clean", "products", "differences"]);
    assert_eq!(audit["clean"], true);
    let wanted = json!([{
        "product_id": product, "stock": 3, "held": 1, "sold": 1, "total": 5,
        "reservations_held": 1, "reservations_sold": 1, "waiting": 0, "entries_waiting": 0,
    }]);
    assert_eq!(audit["products"], wanted);

    // Satisfies every constraint, and is still wrong.
    sqlx::query("update products set stock = 2, held = 3, sold = 0 where id = $1")
        .bind(product)
        .execute(&system.database.pool)
        .await
        .unwrap();
    let audit = system.get("/admin/audit").await.expect(200);
    assert_eq!(audit["clean"], false);
    let difference = |counter: &str, counted: i64, expected: i64| json!({"product_id": product, "counter": counter, "counted": counted, "expected": expected});
    let wanted = json!([
        difference("stock", 2, 3),
        difference("held", 3, 1),
        difference("sold", 0, 1),
    ]);
    assert_eq!(audit["differences"], wanted);
}

#[tokio::test]
async fn dead_events_are_shown_and_requeued() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 7).await;
    system.confirm(&hold).await;
    assert_eq!(
        system.get("/admin/outbox/dead").await.expect(200),
        json!([])
    );
    let make_dead =
        "update outbox_events set dead_at = now(), attempts = 5, last_error = 'refused'";
    sqlx::query(make_dead)
        .execute(&system.database.pool)
        .await
        .unwrap();

    let dead = system.get("/admin/outbox/dead").await.expect(200);
    let event = &dead[0];
    assert_fields(event, &DEAD_LETTER_FIELDS);
    assert_eq!(event["event_type"], "ReservationConfirmed");
    assert_eq!(event["payload"]["reservation_id"], hold["id"]);
    assert_eq!(event["attempts"], 5);

    let requeue = async || system.post("/admin/outbox/requeue").await.expect(200);
    assert_eq!(requeue().await, json!({"requeued": 1}));
    assert_eq!(requeue().await, json!({"requeued": 0}));
    assert_eq!(
        system.get("/admin/outbox/dead").await.expect(200),
        json!([])
    );
}
