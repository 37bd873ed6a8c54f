//! `make demo`: short demos to their end, and the messages of one that cannot run or finds an error.

use std::process::Output;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::{
    chaos::assert_refused,
    support::{Child, Folder, System, eventually, id, output, start},
};

const TOKEN: &str = "an admin's token";

/// Runs a demo to its end.
async fn demo(settings: &[(&str, &str)]) -> Output {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let settings: Vec<(String, String)> = settings.iter().map(owned).collect();
    let run = move || {
        let settings: Vec<_> = settings.iter().map(|(n, v)| (&**n, &**v)).collect();
        output("flashsale-demo", &[], &settings)
    };
    spawn_blocking(run).await.unwrap()
}

/// The demo ended with exit code 2 and one line of output, which is returned.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    said
}

/// A demo of 600 s takes longer than a test waits: it must be stopped.
fn demo_in_background(system: &System, sale_seconds: &str) -> Child {
    let settings = [
        ("FLASHSALE_URL", system.base()),
        ("SHOPPERS", "1000"),
        ("SALE_SECONDS", sale_seconds),
    ];
    start("flashsale-demo", &settings)
}

/// A product of the demo that cannot be sold out yet.
async fn gift_card(system: &System) -> i64 {
    eventually("a product of the demo", async || {
        let all = products(system).await;
        let ours = all.iter().find(|one| one["name"] == "Gift card");
        ours.map(id)
    })
    .await
}

async fn products(system: &System) -> Vec<Value> {
    let request = system.request(Method::GET, "/products");
    let products = system.as_admin(request).await.expect(200);
    products.as_array().unwrap().clone()
}

/// One demo with the admin token for everything, and two with an API key and the same seed.
#[tokio::test]
async fn short_demos_run_to_their_ends_beside_each_other_and_other_data() {
    let folder = Folder::new();
    let made = output("flashsale-api", &["new-key", "shop"], &[]);
    let keys = folder.path().join("keys");
    std::fs::write(&keys, &made.stdout).unwrap();
    let shown = String::from_utf8(made.stderr).unwrap();
    let settings = [
        ("ADMIN_TOKEN", TOKEN),
        ("API_KEYS_FILE", keys.to_str().unwrap()),
    ];
    let system = System::spawn(&settings).await;
    let _expirer = system.beside("flashsale-expirer", &[]);
    system.create_product(5).await;

    let with_token = [
        ("FLASHSALE_URL", system.base()),
        ("ADMIN_TOKEN", TOKEN),
        ("SHOPPERS", "150"),
        ("SALE_SECONDS", "5"),
        ("SEED", "7"),
    ];
    let key = shown.lines().last().unwrap();
    let with_key = [&with_token[..], &[("API_KEY", key)]].concat();
    let with_wrong_key = [&with_token[..], &[("API_KEY", "wrong")]].concat();
    let said = complaint(&demo(&with_wrong_key).await);
    assert!(said.contains("the API refuses GET /products"), "{said}");
    let demos = [demo(&with_token), demo(&with_key), demo(&with_key)];
    let demos = join_all(demos).await;

    let products = products(&system).await;
    for output in demos {
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let first = format!("Watch it: {}/", system.base());
        assert_eq!(said.lines().next(), Some(&*first), "{said}");
        assert_eq!(said.lines().last(), Some("audit: clean"), "{said}");
        assert!(said.contains("Of 150 shoppers"), "{said}");
        assert!(said.contains(" 0 held\n"), "{said}");
        assert!(said.contains("waitlists: "), "{said}");
        let rows = products.iter().filter_map(|product| {
            let name = product["name"].as_str().unwrap();
            let start = format!("{:>7} {name} ", id(product));
            let row = said.lines().find_map(|line| line.strip_prefix(&start))?;
            Some((product, row))
        });
        let rows: Vec<(&Value, &str)> = rows.collect();
        assert_eq!(rows.len(), 12, "{said}");
        for (product, row) in rows {
            let numbers = ["total", "sold", "stock", "held"].map(|name| product[name].to_string());
            assert!(row.split_whitespace().eq(&numbers), "{row}: {product}");
            assert_eq!(product["held"], 0, "{product}");
        }
    }
    assert_eq!(products.len(), 1 + 3 * 12);
    let sold: i64 = products
        .iter()
        .map(|one| one["sold"].as_i64().unwrap())
        .sum();
    assert!(sold > 0);
    // Shoppers who wait are offered what others release, and nobody waits at the end.
    let offered: i64 = sqlx::query_scalar("select sum(offered)::bigint from waitlists")
        .fetch_one(&system.database.pool)
        .await
        .unwrap();
    assert!(offered > 0);
    assert!(products.iter().all(|one| one.get("waiting").is_none()));
}

#[tokio::test]
async fn what_is_still_held_in_the_end_is_waited_for() {
    let system = System::spawn(&[]).await;
    let _expirer = system.beside("flashsale-expirer", &[]);
    let mut demo = demo_in_background(&system, "5");
    let product = gift_card(&system).await;
    let longer = json!({"hold_seconds": 9});
    let path = format!("/products/{product}");
    system
        .admin_json(Method::PATCH, &path, &longer)
        .await
        .expect(200);
    let hold = system.reserve(product, 999_999).await;
    assert!(demo.ends().await.success());
    assert_eq!(system.look_up(&hold).await["status"], "EXPIRED");
}

#[tokio::test]
async fn a_demo_that_is_stopped_ends_at_once_and_shows_what_came_of_it() {
    let system = System::spawn(&[]).await;
    let mut demo = demo_in_background(&system, "600");
    eventually("a reservation", async || {
        (!system.list("").await.is_empty()).then_some(())
    })
    .await;
    demo.interrupt();
    assert_eq!(demo.ends().await.code(), Some(130));
    let said = demo.all_it_said().await;
    assert!(said.contains("reservations: "), "{said}");
    assert!(said.contains("audit: clean"), "{said}");
}

#[tokio::test]
async fn a_sale_that_no_shopper_was_told_of_is_found() {
    let system = System::spawn(&[]).await;
    let mut demo = demo_in_background(&system, "600");
    let product = gift_card(&system).await;
    let hold = system.reserve(product, 999_999).await;
    system.confirm(&hold).await;
    demo.interrupt();
    assert_eq!(demo.ends().await.code(), Some(1));
    let said = demo.all_it_said().await;
    let wanted = format!("error: product {product} (Gift card): the API says");
    assert!(said.contains(&wanted), "{said}");
}

#[tokio::test]
async fn books_that_differ_are_found() {
    let system = System::spawn(&[]).await;
    let mut demo = demo_in_background(&system, "600");
    let product = gift_card(&system).await;
    sqlx::query("update products set held = held + 1, stock = stock - 1 where id = $1")
        .bind(product)
        .execute(&system.database.pool)
        .await
        .unwrap();
    demo.interrupt();
    assert_eq!(demo.ends().await.code(), Some(1));
    let said = demo.all_it_said().await;
    assert!(said.contains("error: the audit is not clean: "), "{said}");
}

#[tokio::test]
async fn where_nothing_answers_it_says_what_to_do() {
    let url = "http://127.0.0.1:1";
    let wanted = format!(
        "error: nothing answers at {url}: run 'make up' first, or say where the API is with FLASHSALE_URL\n"
    );
    let said = complaint(&demo(&[("FLASHSALE_URL", url)]).await);
    assert_eq!(said, wanted);
}

#[tokio::test]
async fn a_wrong_token_is_named_and_nothing_is_made() {
    let system = System::spawn(&[("ADMIN_TOKEN", TOKEN)]).await;
    for token in ["wrong", ""] {
        let settings = [("FLASHSALE_URL", system.base()), ("ADMIN_TOKEN", token)];
        let said = complaint(&demo(&settings).await);
        assert!(said.contains("the API refuses POST /products: "), "{said}");
        assert!(said.contains("Set ADMIN_TOKEN"), "{said}");
        assert!(!said.contains("wrong"), "{said}");
    }
    assert!(products(&system).await.is_empty());
}

#[test]
fn bad_arguments_are_named_before_anything_is_built() {
    for bad in ["x", "", "9", "50001", "010"] {
        assert_refused("demo.sh", "SHOPPERS", bad);
    }
    for bad in ["4", "601", "1.5"] {
        assert_refused("demo.sh", "SALE_SECONDS", bad);
    }
    assert_refused("demo.sh", "SEED", "-1");
    for bad in [
        "https://127.0.0.1",
        "127.0.0.1:8080",
        "http://a:b@c",
        "http://a/b",
    ] {
        assert_refused("demo.sh", "FLASHSALE_URL", bad);
    }
}
