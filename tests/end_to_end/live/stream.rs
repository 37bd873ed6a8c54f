//! `GET /admin/live`.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Peer, System, Viewer, eventually, find, id};

#[tokio::test]
async fn a_viewer_is_told_everything_and_then_what_changes() {
    let system = System::start().await;
    let quiet = system.create_product(5).await;
    let busy = system.create_product(9).await;
    let mut viewer = Viewer::of(&system).await;
    // The first message is a state. If it was created before the products, a tick follows.
    let mut has_history = Vec::new();
    viewer
        .until("both products", |view| {
            has_history.push(view["history"]["at"].is_array());
            find(&view["products"], "id", busy).is_some()
        })
        .await;
    assert!(has_history[0], "it does not begin with a state");

    let first = system.reserve(busy, 1).await;
    let second = system.reserve(busy, 2).await;
    system.confirm(&first).await;
    system.confirm(&first).await;
    system.cancel(&second).await;
    system.try_reserve(busy, 3).await;
    system.try_reserve(busy, 3).await;
    let mut feed = Vec::new();
    let (mut sold, mut reserved, mut refused) = (false, false, false);
    viewer
        .until("all of it", |tick| {
            assert!(tick["history"].is_null(), "{tick}");
            assert!(find(&tick["products"], "id", quiet).is_none(), "{tick}");
            if let Some(product) = find(&tick["products"], "id", busy) {
                sold |= product["sold"] == 1 && product["held"] == 1 && product["stock"] == 7;
            }
            reserved |= tick["rates"]["reserved"].as_f64().unwrap() > 0.0;
            let refusals = &tick["rates"]["refused"]["already_reserved"];
            refused |= refusals.as_f64().is_some_and(|rate| rate > 0.0);
            feed.extend(tick["feed"].as_array().unwrap().clone());
            feed.len() >= 5 && sold && reserved && refused
        })
        .await;
    let feed: Vec<_> = feed
        .iter()
        .map(|entry| (entry["what"].as_str().unwrap(), &entry["reservation_id"]))
        .collect();
    // Each transition once, although one was confirmed twice.
    let wanted = [
        ("reserved", &first["id"]),
        ("reserved", &second["id"]),
        ("confirmed", &first["id"]),
        ("canceled", &second["id"]),
    ];
    assert_eq!(feed[..4], wanted);
    viewer
        .until("the funnel", |view| {
            view["funnel"] == json!({"reserved": 3, "confirmed": 1, "canceled": 1, "expired": 0})
        })
        .await;
}

#[tokio::test]
async fn what_is_missed_is_told_after_a_reconnect() {
    let system = System::start().await;
    let mut viewer = Viewer::of(&system).await;
    viewer.next().await.unwrap();
    let seen = viewer.next().await.unwrap();
    let missed = viewer.next().await.unwrap();
    drop(viewer);

    let mut again = Viewer::after(&system, &seen.id).await;
    let first = again.next().await.unwrap();
    assert_eq!((first.kind.as_str(), &first.text), ("tick", &missed.text));
    // An id that this process has never sent, or not yet, cannot be resumed from.
    let (epoch, _) = seen.id.split_once('-').unwrap();
    let later = format!("{epoch}-999999");
    for id in ["", "x", "1-1", "00000000-1", &later] {
        let mut lost = Viewer::after(&system, id).await;
        assert_eq!(lost.next().await.unwrap().kind, "state", "{id}");
    }
}

#[tokio::test]
async fn one_poll_serves_all_viewers_and_there_is_an_end_to_them() {
    let system = System::start().await;
    let mut viewers = Vec::new();
    for _ in 0..64 {
        viewers.push(Viewer::of(&system).await);
    }
    let request = || system.request(Method::GET, "/admin/live");
    let crowded = Answer::to(request()).await;
    crowded.expect_problem(429, "too_many_viewers");
    let mut others = viewers.split_off(1);
    let mut first = viewers.remove(0);
    first.next().await.unwrap();
    let tick = first.next().await.unwrap();
    for viewer in &mut others {
        eventually("the same tick", async || {
            let event = viewer.next().await.unwrap();
            (event.id == tick.id).then(|| assert_eq!(event.text, tick.text))
        })
        .await;
    }
    drop(first);
    eventually("a seat", async || {
        (request().send().await.unwrap().status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_copy_tells_of_all() {
    let system = System::start().await;
    let other = Peer::api(&system, &[]).await;
    let mut viewer = Viewer::of(&system).await;
    let product = system.create_product(3).await;
    let hold = other.reserve(product, 7).await;
    other.try_reserve(product, 7).await;
    let (mut reserved, mut refused, mut noted) = (false, false, false);
    viewer
        .until("what the other copy did", |view| {
            reserved |= view["rates"]["reserved"].as_f64().unwrap() > 0.0;
            refused |= view["rates"]["refused"]["already_reserved"].is_f64();
            noted |= find(&view["feed"], "reservation_id", id(&hold)).is_some();
            reserved && refused && noted
        })
        .await;
    // An audit by one process is shown by all.
    other.assert_clean_audit().await;
    viewer
        .until("the other copy's audit", |view| {
            view["audit"]["clean"] == true && view["audit"]["products"] == 1
        })
        .await;
}

#[tokio::test]
async fn a_viewer_does_not_hold_up_the_end() {
    let mut system = System::spawn(&[]).await;
    let mut viewer = Viewer::of(&system).await;
    viewer.next().await.unwrap();
    system.child().terminate();
    while viewer.next().await.is_some() {}
    assert!(system.child().ends().await.success());
    // A process that stops removes its heartbeat.
    let there: i64 = sqlx::query_scalar("select count(*) from processes")
        .fetch_one(&system.database.pool)
        .await
        .unwrap();
    assert_eq!(there, 0);
}

#[tokio::test]
async fn a_browser_holds_the_page_to_its_own_host() {
    let system = System::with(&[("ADMIN_TOKEN", "secret")]).await;
    let page = system.get("/").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let script = system.get("/live/app.js").await;
    assert_eq!(
        script.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    for file in [page, script] {
        assert_eq!(file.status, 200);
        assert_eq!(
            file.header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
            base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        );
        assert_eq!(file.header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn of_many_products_the_newest_are_shown() {
    let system = System::start().await;
    let make =
        "insert into products (name, stock, total) select 'x', 1, 1 from generate_series(1, 501)";
    sqlx::query(make)
        .execute(&system.database.pool)
        .await
        .unwrap();
    let mut viewer = Viewer::of(&system).await;
    let view = viewer
        .until("the newest", |view| view["products_shown"] == "newest 500")
        .await;
    let products = view["products"].as_array().unwrap();
    assert_eq!(products.len(), 500);
    assert_eq!(
        (&products[0]["id"], &products[499]["id"]),
        (&json!(2), &json!(501))
    );
}
