//! The page `/docs` in a browser: its console, its search, its copy buttons, and its accessibility.

use serde_json::json;

use super::browser::Browser;
use crate::support::{System, Tools};

/// Chromium's console message for an answer of 401.
const UNAUTHORIZED: &str = "401 (Unauthorized)";

#[tokio::test]
async fn the_console_sends_requests_with_the_secret_that_one_types_in() {
    let system = System::with(&[("ADMIN_TOKEN", "an admin's token")]).await;
    let Some(browser) = Browser::open_at(&system, "/docs").await else {
        return;
    };
    let send = |operation: &str| format!("#{operation} form [type=submit]");
    let answer = |operation: &str| format!("#{operation} [data-answer]");
    // The body is the example that the page shows.
    browser.click(&send("createProduct")).await;
    browser.shows(&answer("createProduct"), "401").await;
    browser
        .shows(&answer("createProduct"), "unauthorized")
        .await;
    browser.fill("#secret", "an admin's token").await;
    browser.click(&send("createProduct")).await;
    browser.shows(&answer("createProduct"), "201").await;
    browser.shows(&answer("createProduct"), "/products/1").await;
    assert_eq!(system.product(1).await["name"], "iPhone 15");
    // A header, a body of one's own, and a path.
    let key = "#reserveProduct-Idempotency-Key";
    browser.fill(key, "a-key").await;
    let body = json!({ "product_id": 1, "user_id": 7, "quantity": 2 }).to_string();
    browser.fill("#reserveProduct-body", &body).await;
    for _ in 0..2 {
        browser.click(&send("reserveProduct")).await;
        browser.shows(&answer("reserveProduct"), "201").await;
    }
    browser
        .shows(&answer("reserveProduct"), "idempotency-replayed: true")
        .await;
    assert_eq!(system.product(1).await["held"], 2);
    browser.click(&send("confirmReservation")).await;
    browser
        .shows(&answer("confirmReservation"), "CONFIRMED")
        .await;
    // A query.
    browser.fill("#listReservations-user_id", "8").await;
    browser.click(&send("listReservations")).await;
    browser.shows(&answer("listReservations"), "[]").await;
    // A stream has no end. Its beginning is shown.
    browser.click(&send("watchLive")).await;
    browser.shows(&answer("watchLive"), "event: state").await;
    browser.reload().await;
    // The secret is kept for the tab.
    browser.click(&send("auditInventory")).await;
    browser.shows(&answer("auditInventory"), "200").await;
    browser.ends_with(&[UNAUTHORIZED]).await;
}

#[tokio::test]
async fn the_search_finds_what_contains_all_words() {
    let system = System::start().await;
    let Some(browser) = Browser::open_at(&system, "/docs").await else {
        return;
    };
    browser.press("/").await;
    assert_eq!(browser.focused().await, "search");
    browser.press("payment deadline refund").await;
    browser.shows("#found", "found").await;
    browser.shows("#problem-expired_sold_out", "").await;
    browser.hides("#createProduct").await;
    browser.hides(r##"nav a[href="#createProduct"]"##).await;
    browser.fill("#search", "no such words").await;
    browser.shows("#found", "0 found").await;
    browser.hides("#problems").await;
    browser.fill("#search", "createproduct").await;
    browser.shows("#createProduct", "").await;
    // Each block can be copied.
    browser.click("#createProduct .copy").await;
    let said = browser.run("return document.querySelector('#createProduct .copy').textContent");
    assert_ne!(said.await, "");
    let blocks = "return [...document.querySelectorAll('pre')].filter((block) =>
        !block.previousElementSibling?.classList.contains('copy')).length";
    assert_eq!(browser.run(blocks).await, 0);
    browser.ends_clean().await;
}

#[tokio::test]
async fn it_can_be_used_on_a_phone_and_axe_finds_nothing() {
    let system = System::start().await;
    let Some(tools) = Tools::node() else { return };
    let Some(browser) = Browser::open_at(&system, "/docs").await else {
        return;
    };
    for size in [(1400, 900), (360, 740)] {
        for colours in ["light", "dark"] {
            browser.looks_like(size, colours).await;
            browser.reload().await;
            // An answer is on the page, too.
            browser.click("#listProducts form [type=submit]").await;
            browser.shows("#listProducts [data-answer]", "200").await;
            let state = format!("{size:?} {colours}");
            browser.is_accessible(&tools, &state).await;
        }
    }
    browser.ends_clean().await;
}
