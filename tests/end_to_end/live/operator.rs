//! What an operator does on the live page during a sale, in a browser.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use super::browser::Browser;
use crate::support::{Folder, System, Tools, eventually, id};

async fn join(system: &System, product: i64, user: i64) -> Value {
    let path = format!("/products/{product}/waitlist");
    let joined = system.post_json(&path, &json!({"user_id": user})).await;
    joined.expect(201)
}

async fn reserve_for(system: &System, product: i64, user: i64, reference: &str) -> Value {
    let wish = json!({"product_id": product, "user_id": user, "reference": reference});
    system.post_json("/reservations", &wish).await.expect(201)
}

#[tokio::test]
async fn a_product_opens_to_its_line_its_offers_its_ledger_and_its_holds() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let hold = system.reserve(product, 41).await;
    join(&system, product, 42).await;
    join(&system, product, 43).await;
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    let row = |part: &str| format!(r#"[data-product="{product}"] [data-{part}]"#);
    browser.shows("#waitlists-waiting", "2").await;
    browser.shows("#waitlists-list", "2").await;
    browser.shows(&row("pace"), "2 waiting").await;
    system.cancel(&hold).await;
    browser.shows(&row("pace"), "1 waiting · 1 offered").await;
    browser.shows("#waitlists-offered", "1").await;

    browser.click(&row("name")).await;
    browser.hides("#dashboard").await;
    assert_eq!(browser.focused().await, "product-title");
    browser.shows("#product-waiting-number", "1").await;
    browser.shows("#product-offers-number", "1").await;
    browser.shows("#product-line tbody", "43").await;
    browser.shows("#product-offered tbody", "42").await;
    browser.shows("#product-holds tbody", "42").await;
    browser
        .shows("#product-transitions tbody", "Canceled")
        .await;
    browser.shows("#product-ledger", "never changed").await;
    // Its view is kept when the page is loaded again.
    browser.reload().await;
    browser.shows("#product-line tbody", "43").await;

    // A unit that is added goes to the line at once.
    browser.click("#open-adjust-stock").await;
    browser.fill("#adjust-stock-units", "1").await;
    browser
        .fill("#adjust-stock-reason", "a late delivery")
        .await;
    browser.click("#dialog-adjust-stock [data-submit]").await;
    browser
        .shows("#dialog-adjust-stock [data-result]", "adjusted")
        .await;
    browser.click("#dialog-adjust-stock [data-close]").await;
    browser
        .shows("#product-ledger tbody", "a late delivery")
        .await;
    browser.shows("#product-ledger tbody", "+1").await;
    browser.shows("#product-line", "Nobody waits").await;
    browser.shows("#product-offered tbody", "43").await;
    browser.shows("#product-held-number", "2").await;

    browser.click(".back a").await;
    browser.hides("#product").await;
    browser.shows(&row("held"), "2").await;
    browser.ends_clean().await;
}

#[tokio::test]
async fn reservations_are_found_by_their_id_their_user_and_their_reference() {
    let system = System::start().await;
    let product = system.create_product(50).await;
    let others = system.create_product(1).await;
    let first = reserve_for(&system, product, 42, "order 7/ä").await;
    system.confirm(&first).await;
    let second = reserve_for(&system, others, 42, "order-8").await;
    let waiting = system.create_product(0).await;
    join(&system, waiting, 42).await;
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    let find = async |kind: &str, wanted: &str| {
        let choose = format!(
            "const kind = document.getElementById('find-kind'); kind.value = '{kind}';
            kind.dispatchEvent(new Event('change'))"
        );
        browser.run(&choose).await;
        browser.fill("#find-wanted", wanted).await;
        browser.click("#find-submit").await;
    };
    find("id", &id(&first).to_string()).await;
    browser.shows("#find-status", "1 reservation").await;
    browser.shows("#find-results tbody", "Confirmed").await;
    find("reference", "order-8").await;
    let found = format!("#{}", id(&second));
    browser.shows("#find-results tbody", &found).await;
    browser.shows("#find-results tbody", "Held").await;
    find("reference", "order 7/ä").await;
    browser.shows("#find-results tbody", "order 7/ä").await;
    // What the API gives up because it takes too long is read again.
    let given_up = r#"http_requests_total{method="GET",route="/reservations",status="503"}"#;
    let before = system.metric(given_up).await;
    let lock = system.database.lock_table("reservations").await;
    find("reference", "order-8").await;
    eventually("a list that was given up", async || {
        (system.metric(given_up).await > before).then_some(())
    })
    .await;
    lock.rollback().await.unwrap();
    browser.shows("#find-results tbody", "order-8").await;
    find("user", "42").await;
    browser
        .shows("#find-status", "2 reservations, 1 entry of a waitlist")
        .await;
    browser.shows("#find-results", "Waiting").await;
    find("user", "x").await;
    browser.shows("#find-wanted-error", "whole number").await;
    find("id", "999999").await;
    browser.shows("#find-status", "No reservation").await;
    // More than one page.
    for user in 1..=22 {
        reserve_for(&system, product, user, "same").await;
    }
    find("reference", "same").await;
    browser.shows("#find-status", "20 reservations").await;
    browser.click("#find-more").await;
    browser.shows("#find-status", "2 older reservations").await;
    browser.hides("#find-more").await;
    // A product of a result opens.
    browser.click("#find-results tbody a").await;
    let number = "#product-held-number";
    browser.shows(number, "22").await;
    browser.ends_with(&["404 (Not Found)"]).await;
}

#[tokio::test]
async fn rules_are_changed_and_dead_and_published_events_sent_again() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    let path = format!("/products/{product}");
    let rules = json!({"max_per_user": 2, "sale_ends_at": "2099-01-02T03:04:05.678Z"});
    let patched = system.admin_json(Method::PATCH, &path, &rules).await;
    patched.expect(200);
    system
        .database
        .execute(
            "insert into outbox_events (event_type, payload, attempts, last_error, dead_at)
            values ('ReservationConfirmed', '{\"id\": 77}', 10, 'the queue is full', now());
            insert into outbox_events (event_type, payload, published_at)
            values ('ReservationConfirmed', '{\"id\": 78}', now())",
        )
        .await;
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    browser
        .click(&format!(r#"[data-product="{product}"] [data-name]"#))
        .await;
    browser.shows("#product-rule-max-per-user", "2").await;
    browser.click("#open-change-rules").await;
    browser.fill("#rules-max-per-user", "").await;
    browser.fill("#rules-hold-seconds", "90").await;
    let change = "#dialog-change-rules";
    browser.click(&format!("{change} [data-submit]")).await;
    browser
        .shows(&format!("{change} [data-result]"), "changed")
        .await;
    browser.click(&format!("{change} [data-close]")).await;
    browser
        .shows("#product-rule-max-per-user", "no limit")
        .await;
    browser
        .shows("#product-rule-hold-seconds", "1 min 30 s")
        .await;
    let changed = system.product(product).await;
    assert_eq!(changed["hold_seconds"], 90);
    assert_eq!(changed["max_per_user"], Value::Null);
    // What was not touched is not sent.
    let ends = changed["sale_ends_at"].as_str().unwrap();
    assert!(ends.starts_with("2099-01-02T03:04:05.678"), "{ends}");
    browser.click(".back a").await;

    browser.click("#open-requeue-events").await;
    let list = "#requeue-events-list";
    browser.shows(list, "the queue is full").await;
    browser.shows(list, r#"{"id":77}"#).await;
    browser.click("#dialog-requeue-events [data-submit]").await;
    let result = "#dialog-requeue-events [data-result]";
    browser.shows(result, "1 event requeued").await;
    browser.click("#dialog-requeue-events [data-close]").await;

    browser.click("#open-replay-events").await;
    // The last five minutes until the current second. The end is not included.
    let later = "const to = document.getElementById('replay-to'); to.value = '2099-01-01T00:00:00'";
    browser.run(later).await;
    browser.click("#dialog-replay-events [data-submit]").await;
    let result = "#dialog-replay-events [data-result]";
    browser
        .shows(result, "1 event will be published again")
        .await;
    browser.click("#dialog-replay-events [data-close]").await;
    let waiting =
        "select count(*) from outbox_events where published_at is null and dead_at is null";
    let waiting: i64 = sqlx::query_scalar(waiting)
        .fetch_one(&system.database.pool)
        .await
        .unwrap();
    assert_eq!(waiting, 2);
    browser.ends_clean().await;
}

#[tokio::test]
async fn the_chart_has_ranges_and_what_is_shown_can_be_saved() {
    let system = System::start().await;
    let quiet = system.create_product(7).await;
    let busy = system.create_product(9).await;
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    let folder = Folder::new();
    browser.saves_files_in(folder.path()).await;
    let first =
        |product: i64| format!(r#"#products-list li:first-child[data-product="{product}"]"#);
    browser.find(&first(quiet)).await;
    for user in 1..=4 {
        let hold = system.reserve(busy, user).await;
        system.confirm(&hold).await;
    }
    // What sells now comes first.
    browser.find(&first(busy)).await;
    browser
        .shows(
            &format!(r#"[data-product="{busy}"] [data-pace]"#),
            "sold per second",
        )
        .await;
    for percentile in ["#latency-p50", "#latency-p99"] {
        browser.shows(percentile, " ms").await;
    }
    let range = |number: usize| format!("#chart-range label:nth-of-type({number})");
    browser.shows("#chart-readout", "last five minutes").await;
    browser.click(&range(2)).await;
    browser.shows("#chart-readout", "last hour").await;
    browser.click(&range(3)).await;
    browser.shows("#chart-readout", "All of the sale").await;
    browser.click("#chart-table summary").await;
    browser.shows("#chart-rows", ":").await;
    browser.click(&range(1)).await;

    browser.click("#chart-export").await;
    let rates = saved(&folder, "rates-5min").await;
    let columns = "time,reserved_per_second,sold_per_second,refused_per_second,failed_per_second";
    assert_eq!(rates.lines().next(), Some(columns));
    assert!(rates.lines().count() > 2, "{rates}");
    browser.click("#products-export").await;
    let products = saved(&folder, "products").await;
    let row = |product: i64| {
        let start = format!("{product},");
        let row = products.lines().find(|line| line.starts_with(&start));
        row.unwrap_or_else(|| panic!("no product {product}: {products}"))
    };
    assert!(row(busy).contains(",5,0,4,9,0,0,"), "{products}");
    assert!(row(quiet).contains(",7,0,0,7,0,0,0,"), "{products}");
    browser.ends_clean().await;
}

/// The text of the file with such a name, without its byte order mark.
async fn saved(folder: &Folder, name: &str) -> String {
    eventually(&format!("the file {name}"), async || {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        let path = paths.find(|path| {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            file.starts_with(name) && file.ends_with(".csv")
        });
        let text = std::fs::read_to_string(path?).unwrap();
        Some(text.strip_prefix('\u{feff}')?.to_owned())
    })
    .await
}

#[tokio::test]
async fn it_can_be_used_on_a_phone_and_axe_finds_nothing() {
    let system = System::start().await;
    let Some(tools) = Tools::node() else { return };
    let mut products = Vec::new();
    for units in 1..=14 {
        products.push(system.create_product(units).await);
    }
    let product = products[0];
    let hold = system.reserve(product, 41).await;
    for user in 42..=44 {
        join(&system, product, user).await;
    }
    system.cancel(&hold).await;
    let path = format!("/products/{product}/stock");
    let change =
        json!({"delta": 1, "reason": "a delivery with a long reason, such as operators write it"});
    system
        .admin_json(Method::POST, &path, &change)
        .await
        .expect(200);
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    for (size, colours) in [((1400, 900), "light"), ((360, 740), "dark")] {
        browser.looks_like(size, colours).await;
        browser.run("location.hash = ''").await;
        browser.reload().await;
        browser.shows("#waitlists-list", "2").await;
        browser.fill("#find-wanted", &id(&hold).to_string()).await;
        browser.click("#find-submit").await;
        browser.shows("#find-results tbody", "Canceled").await;
        let state = format!("{size:?} {colours}");
        browser.is_accessible(&tools, &state).await;
        browser
            .click(&format!(r#"[data-product="{product}"] [data-name]"#))
            .await;
        for list in ["line", "offered", "holds", "ledger", "transitions"] {
            browser.find(&format!("#product-{list} tbody tr")).await;
        }
        browser
            .is_accessible(&tools, &format!("{state} {product}"))
            .await;
        browser.click("#open-change-rules").await;
        browser
            .is_accessible(&tools, &format!("{state} rules"))
            .await;
        browser.click("#dialog-change-rules [data-close]").await;
    }
    browser.ends_clean().await;
}

/// On the API's own machine the page shows its numbers without a token. Its lists need a key.
#[tokio::test]
async fn with_keys_and_without_a_token_the_page_says_what_to_do() {
    let folder = Folder::new();
    let file = folder.path().join("keys");
    fs::write(&file, format!("shop {}\n", "0".repeat(64))).unwrap();
    let system = System::with(&[("API_KEYS_FILE", file.to_str().unwrap())]).await;
    let product = system.create_product(9).await;
    let list = system.get("/waitlist").await;
    list.expect_problem(401, "unauthorized");
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    let name = format!(r#"[data-product="{product}"] [data-name]"#);
    browser.click(&name).await;
    browser.shows("#product-holds", "Set ADMIN_TOKEN").await;
    browser.shows("#product-line", "Set ADMIN_TOKEN").await;
    browser.click(".back a").await;
    browser.fill("#find-wanted", "1").await;
    browser.click("#find-submit").await;
    browser.shows("#find-results", "Set ADMIN_TOKEN").await;
    browser.ends_with(&["401 (Unauthorized)"]).await;
}
