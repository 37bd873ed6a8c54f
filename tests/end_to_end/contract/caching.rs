//! What browsers and caches may keep, and which pages may read: `ETag`, CORS and gzip.

use std::io::Read as _;

use flate2::read::GzDecoder;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::{Answer, System, id};

async fn get(system: &System, path: &str, name: &str, value: &str) -> Answer {
    Answer::to(system.request(Method::GET, path).header(name, value)).await
}

#[tokio::test]
async fn a_read_that_has_not_changed_has_no_body() {
    let system = System::start().await;
    let product = system.create_product(5).await;
    let hold = system.reserve(product, 1).await;
    let of_product = format!("/products/{product}");
    let of_hold = format!("/reservations/{}", id(&hold));
    for path in [&of_product, &of_hold, "/products", "/products?limit=1"] {
        let full = system.get(path).await;
        let tag = full.header("etag").to_owned();
        assert!(tag.len() > 10 && full.status == 200, "{path}: {tag}");
        assert_eq!(full.header("cache-control"), "no-cache");
        for known in [&tag, &format!("\"x\", W/{tag}"), "*"] {
            let same = get(&system, path, "if-none-match", known).await;
            assert_eq!(
                (same.status.as_u16(), same.text.as_str()),
                (304, ""),
                "{path} {known}"
            );
            assert_eq!(same.header("etag"), tag);
            assert_eq!(same.header("cache-control"), "no-cache");
        }
        let other = get(&system, path, "if-none-match", "\"x\"").await;
        assert_eq!(
            (&other.text, other.header("etag")),
            (&full.text, tag.as_str())
        );
        let head = Answer::to(system.request(Method::HEAD, path)).await;
        assert_eq!(head.header("etag"), tag, "{path}");
    }
    // A change is seen at once, also the one that no request makes.
    let before = system.get(&of_product).await;
    let list = system.get("/products").await;
    let held = system.get(&of_hold).await;
    system.reserve(product, 2).await;
    system.backdate(&hold).await;
    for (path, before) in [
        (&*of_product, before),
        ("/products", list),
        (&of_hold, held),
    ] {
        let now = get(&system, path, "if-none-match", before.header("etag")).await;
        assert_eq!(now.status, 200, "{path}");
        assert_ne!(now.text, before.text);
    }
    let missing = get(&system, "/products/999", "if-none-match", "*").await;
    missing.expect_problem(404, "product_not_found");
    assert_eq!(missing.header("cache-control"), "no-store");
}

/// A client with the tag would never see the next page.
#[tokio::test]
async fn a_page_that_is_no_longer_the_last_one_has_changed() {
    let system = System::start().await;
    for _ in 0..3 {
        system.create_product(5).await;
    }
    for path in ["/products?limit=3", "/products?limit=2&after_id=1"] {
        let last = system.get(path).await;
        assert_eq!(last.header("link"), "", "{path}");
        let product = system.create_product(5).await;
        let now = get(&system, path, "if-none-match", last.header("etag")).await;
        assert_eq!(now.status, 200, "{path}");
        assert_eq!(now.text, last.text, "{path}");
        assert!(now.header("link").contains("after_id=3"), "{path}");
        let same = get(&system, path, "if-none-match", now.header("etag")).await;
        assert_eq!(same.status, 304, "{path}");
        // And back again.
        let delete = sqlx::query("delete from products where id = $1").bind(product);
        delete.execute(&system.database.pool).await.unwrap();
        let again = get(&system, path, "if-none-match", now.header("etag")).await;
        assert_eq!(again.status, 200, "{path}");
        assert_eq!(again.header("etag"), last.header("etag"), "{path}");
    }
}

fn preflight(system: &System, path: &str, origin: &str, method: &str) -> RequestBuilder {
    let request = system.request(Method::OPTIONS, path);
    request
        .header("origin", origin)
        .header("access-control-request-method", method)
}

#[tokio::test]
async fn pages_may_read_where_a_product_has_moved() {
    let origin = "https://shop.example";
    let system = System::with(&[("CORS_ORIGINS", origin)]).await;
    let product = system.create_product(5).await;
    system.reserve(product, 1).await;
    let paths = ["/products/1", "/reservations/1"];
    for (statement, status, code) in [
        (
            "select depart_v1(1, gen_random_uuid(), 7)",
            503,
            "overloaded",
        ),
        (
            "update product_moves set status = 'FINISHED', parcel = null",
            421,
            "product_moved",
        ),
    ] {
        system.database.execute(statement).await;
        for path in paths {
            let answer = get(&system, path, "origin", origin).await;
            answer.expect_problem(status, code);
            assert_eq!(answer.header("access-control-allow-origin"), origin);
            assert!(answer.header("vary").to_lowercase().contains("origin"));
            assert!(answer.header("x-request-id").len() > 10);
        }
    }
}

#[tokio::test]
async fn pages_of_the_named_origins_may_read() {
    let origins = (
        "CORS_ORIGINS",
        "https://shop.example, http://localhost:3000",
    );
    let system = System::with(&[origins]).await;
    let product = system.create_product(5).await;
    let hold = system.reserve(product, 1).await;
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").to_owned();
    let reads = [
        "/products",
        "/products?limit=1",
        "/products/1",
        "/reservations/1",
        "/products/999",
    ];
    for path in reads {
        for origin in ["https://shop.example", "http://localhost:3000"] {
            let answer = get(&system, path, "origin", origin).await;
            assert_eq!(allowed(&answer), origin, "{path}");
            let vary = answer.header("vary").to_lowercase();
            assert!(vary.contains("origin"), "{vary}");
        }
        for other in [
            "https://evil.example",
            "https://shop.example.evil.example",
            "null",
        ] {
            assert_eq!(
                allowed(&get(&system, path, "origin", other).await),
                "",
                "{path} {other}"
            );
        }
    }
    assert_eq!(
        allowed(&get(&system, "/reservations", "origin", "https://shop.example").await),
        ""
    );
    assert_eq!(
        allowed(&get(&system, "/admin/audit", "origin", "https://shop.example").await),
        ""
    );
    let asked = preflight(&system, "/products/1", "https://shop.example", "GET");
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["access-control-allow-origin"],
        "https://shop.example"
    );
    // Nothing can be changed.
    let cancel = format!("/reservations/{}/cancel", id(&hold));
    for (path, method) in [
        ("/products", "POST"),
        ("/products/1", "PATCH"),
        (&cancel, "POST"),
    ] {
        let asked = Answer::to(preflight(&system, path, "https://shop.example", method)).await;
        asked.expect_problem(405, "method_not_allowed");
        assert_eq!(allowed(&asked), "");
    }
    let act = system
        .request(Method::POST, &cancel)
        .header("origin", "https://shop.example");
    let act = Answer::to(act).await;
    act.expect_problem(403, "forbidden");
    assert_eq!(allowed(&act), "");
}

#[tokio::test]
async fn by_default_no_page_of_another_site_may_read() {
    let system = System::start().await;
    system.create_product(5).await;
    for origin in ["https://shop.example", "http://localhost:3000", "null"] {
        let answer = get(&system, "/products", "origin", origin).await;
        assert_eq!(answer.header("access-control-allow-origin"), "");
        let asked = Answer::to(preflight(&system, "/products", origin, "GET")).await;
        asked.expect_problem(405, "method_not_allowed");
    }
}

#[tokio::test]
async fn pages_and_documents_are_compressed_for_those_who_take_it() {
    let system = System::start().await;
    for path in [
        "/",
        "/live/app.js",
        "/docs",
        "/docs/style.css",
        "/openapi.json",
    ] {
        let plain = system.get(path).await;
        assert_eq!(plain.header("content-encoding"), "", "{path}");
        assert_eq!(plain.header("vary"), "accept-encoding");
        let asked = system
            .request(Method::GET, path)
            .header("accept-encoding", "br, gzip");
        let packed = asked.send().await.unwrap();
        assert_eq!(packed.headers()["content-encoding"], "gzip", "{path}");
        let tag = packed.headers()["etag"].to_str().unwrap().to_owned();
        assert_ne!(tag, plain.header("etag"));
        let packed = packed.bytes().await.unwrap();
        let mut text = String::new();
        GzDecoder::new(&packed[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, plain.text, "{path}");
        assert!(packed.len() < plain.text.len(), "{path}");
        // The tag is that of the form.
        for (accepted, tag) in [("gzip", tag.as_str()), ("identity", plain.header("etag"))] {
            let asked = system
                .request(Method::GET, path)
                .header("accept-encoding", accepted);
            let same = asked.header("if-none-match", tag).send().await.unwrap();
            assert_eq!(same.status(), 304, "{path}");
        }
    }
    // Answers with data are not compressed.
    let products = get(&system, "/products", "accept-encoding", "gzip").await;
    assert_eq!(products.header("content-encoding"), "");
    assert_eq!(products.json(), json!([]));
}
