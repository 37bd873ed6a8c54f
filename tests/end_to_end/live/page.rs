//! The page in a browser: it follows the service, and executes an operator's actions.

use super::browser::Browser;
use crate::support::{Client, Proxy, System, Traffic, eventually, id};

/// Chromium's console message for an answer other than 2xx.
const UNAUTHORIZED: &str = "401 (Unauthorized)";
const CONFLICT: &str = "409 (Conflict)";
/// Chromium's console message for no answer.
const CUT: &str = "net::ERR_";
const UNPROCESSABLE: &str = "422 (Unprocessable";

#[tokio::test]
async fn it_moves_as_the_service_does() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    let row = format!(r#"[data-product="{product}"]"#);
    let figure = |name: &str| format!("{row} [data-{name}]");
    browser.shows(&figure("free"), "9").await;
    let hold = system.reserve(product, 42).await;
    browser.shows(&figure("held"), "1").await;
    browser.shows(&figure("free"), "8").await;
    browser.shows("#feed-list", &id(&hold).to_string()).await;
    system.confirm(&hold).await;
    browser.shows(&figure("sold"), "1").await;
    browser.shows("#funnel-confirmed", "1").await;
    system.try_reserve(product, 43).await;
    system.try_reserve(product, 43).await;
    browser
        .find(r#"#refusals-list [data-code="already_reserved"]"#)
        .await;
    browser.ends_clean().await;
}

#[tokio::test]
async fn a_product_is_created_and_its_stock_adjusted() {
    let system = System::start().await;
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    // By keyboard only, within the dialog.
    browser.find("#open-create-product").await;
    browser.click("#open-create-product").await;
    browser.fill("#product-name", "Lamp <b>Ä</b> \"1\"").await;
    browser.fill("#product-stock", "7").await;
    browser.click("#dialog-create-product [data-submit]").await;
    browser
        .shows("#dialog-create-product [data-result]", "Product 1 created")
        .await;
    browser.press("\u{e00c}").await;
    browser.hides("#dialog-create-product").await;
    assert_eq!(browser.focused().await, "open-create-product");
    browser
        .shows(r#"[data-product="1"] [data-name]"#, "Lamp <b>Ä</b> \"1\"")
        .await;
    assert_eq!(system.product(1).await["total"], 7);

    let adjust = r#"[data-product="1"] [data-action="adjust-stock"]"#;
    browser.click(adjust).await;
    browser.fill("#adjust-stock-units", "5").await;
    browser
        .fill("#adjust-stock-reason", "found in a corner")
        .await;
    browser.click("#dialog-adjust-stock [data-submit]").await;
    browser
        .shows(
            "#dialog-adjust-stock [data-result]",
            "Stock of product 1 adjusted",
        )
        .await;
    browser.click("#dialog-adjust-stock [data-close]").await;
    browser
        .shows(r#"[data-product="1"] [data-free]"#, "12")
        .await;
    // More units than exist: the service's message is shown.
    browser.click(adjust).await;
    browser.click("#adjust-stock-remove").await;
    browser.fill("#adjust-stock-units", "13").await;
    browser.fill("#adjust-stock-reason", "lost").await;
    browser.click("#dialog-adjust-stock [data-submit]").await;
    browser
        .shows("#dialog-adjust-stock [data-result]", "insufficient_stock")
        .await;
    assert_eq!(system.stock(1).await, 12);
    browser.ends_with(&[CONFLICT, UNPROCESSABLE]).await;
}

#[tokio::test]
async fn due_holds_are_expired_dead_events_requeued_and_the_inventory_audited() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    for user in 1..=2 {
        let hold = system.reserve(product, user).await;
        system.backdate(&hold).await;
    }
    sqlx::query(
        "insert into outbox_events (event_type, payload, attempts, last_error, dead_at)
        values ('ReservationConfirmed', '{}', 10, 'x', now())",
    )
    .execute(&system.database.pool)
    .await
    .unwrap();
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    for (action, before, done) in [
        ("sync-expired", 2, "2 holds expired"),
        ("requeue-events", 0, "1 event requeued"),
        ("rebuild-counters", 0, "Counters rebuilt"),
    ] {
        browser.click(&format!("#open-{action}")).await;
        // The page asks for confirmation first.
        browser
            .find(&format!(r#"#dialog-{action}[data-phase="ask"]"#))
            .await;
        assert_eq!(system.product(product).await["held"], before, "{action}");
        browser
            .click(&format!("#dialog-{action} [data-submit]"))
            .await;
        browser
            .shows(&format!("#dialog-{action} [data-result]"), done)
            .await;
        browser
            .click(&format!("#dialog-{action} [data-close]"))
            .await;
        browser.hides(&format!("#dialog-{action}")).await;
    }
    let dead: i64 =
        sqlx::query_scalar("select count(*) from outbox_events where dead_at is not null")
            .fetch_one(&system.database.pool)
            .await
            .unwrap();
    assert_eq!(dead, 0);
    browser.shows("#funnel-expired", "2").await;
    browser.click("#open-run-audit").await;
    browser
        .shows(
            "#dialog-run-audit [data-result]",
            "The inventory is consistent",
        )
        .await;
    browser.click("#dialog-run-audit [data-close]").await;
    browser.find(r#"#audit[data-audit="clean"]"#).await;
    sqlx::query("update products set held = held + 1, stock = stock - 1")
        .execute(&system.database.pool)
        .await
        .unwrap();
    browser.click("#open-run-audit").await;
    browser
        .shows(
            "#dialog-run-audit [data-result]",
            "The inventory is inconsistent",
        )
        .await;
    browser.ends_clean().await;
}

#[tokio::test]
async fn an_outcome_that_is_unknown_is_called_so_and_a_retry_has_no_second_effect() {
    let system = System::start().await;
    let proxy = Proxy::to(system.address()).await;
    let far = Client::new(format!("http://{}", proxy.address), None);
    let Some(browser) = Browser::open(&far).await else {
        return;
    };
    browser.click("#open-create-product").await;
    browser.fill("#product-name", "Lamp").await;
    browser.fill("#product-stock", "7").await;
    proxy.set(Traffic::Mute);
    browser.click("#dialog-create-product [data-submit]").await;
    // It was done, but the page got no answer, and nothing else either.
    eventually("the product", async || {
        (system.get("/products").await.json()[0]["stock"] == 7).then_some(())
    })
    .await;
    browser.find(r#"#health[data-health="stale"]"#).await;
    proxy.set(Traffic::Refuse);
    browser
        .shows(
            "#dialog-create-product [data-result]",
            "The outcome is unknown",
        )
        .await;
    proxy.set(Traffic::Pass);
    browser.click("#dialog-create-product [data-submit]").await;
    browser
        .shows("#dialog-create-product [data-result]", "Product 1 created")
        .await;
    assert_eq!(
        system
            .get("/products")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    browser.find(r#"#health[data-health="warning"]"#).await;
    browser.ends_with(&[CUT]).await;
}

#[tokio::test]
async fn the_token_is_asked_for_kept_for_the_tab_and_forgotten() {
    let system = System::with(&[("ADMIN_TOKEN", "an admin's token")]).await;
    let product = system.create_product(3).await;
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    browser.shows("#access", "token").await;
    browser.hides("#dashboard").await;
    browser.fill("#token", "wrong").await;
    browser.click("#token-submit").await;
    browser.shows("#token-error", "").await;
    browser.fill("#token", "an admin's token").await;
    browser.click("#token-submit").await;
    let free = format!(r#"[data-product="{product}"] [data-free]"#);
    browser.shows(&free, "3").await;
    browser.reload().await;
    browser.shows(&free, "3").await;
    browser.click("#forget-token").await;
    browser.shows("#access", "token").await;
    browser.ends_with(&[UNAUTHORIZED]).await;
}

#[tokio::test]
async fn five_hundred_products_can_be_searched() {
    let system = System::start().await;
    sqlx::query(
        "insert into products (name, stock, total) select 'Product ' || n, 5, 5 from generate_series(1, 500) n",
    )
    .execute(&system.database.pool)
    .await
    .unwrap();
    let Some(browser) = Browser::open(&system).await else {
        return;
    };
    browser.shows("#products-count", "500").await;
    browser.fill("#products-filter", "Product 321").await;
    browser
        .shows(r#"[data-product="321"]"#, "Product 321")
        .await;
    browser.hides(r#"[data-product="322"]"#).await;
    system.reserve(321, 1).await;
    browser
        .shows(r#"[data-product="321"] [data-held]"#, "1")
        .await;
    browser.ends_clean().await;
}
