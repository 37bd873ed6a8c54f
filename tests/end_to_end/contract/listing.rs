//! `GET /reservations`

use serde_json::Value;

use crate::support::{Answer, System, id};

/// The ids of a list.
async fn ids(system: &System, query: &str) -> Vec<i64> {
    system.list(query).await.iter().map(id).collect()
}

#[tokio::test]
async fn without_a_filter_the_newest_twenty_are_listed() {
    let system = System::start().await;
    let product = system.create_product(30).await;
    assert!(system.list("").await.is_empty());
    let mut newest_first = Vec::new();
    for user in 1..=25 {
        newest_first.insert(0, system.reserve(product, user).await);
    }
    assert_eq!(system.list("").await, newest_first[..20]);
    assert_eq!(system.list("limit=1").await, newest_first[..1]);
    assert_eq!(system.list("limit=100").await, newest_first);
    assert_eq!(system.list("offset=20").await, newest_first[20..]);
    assert_eq!(system.list("limit=2&offset=3").await, newest_first[3..5]);
    assert!(system.list("offset=25").await.is_empty());
    assert!(system.list("offset=9223372036854775807").await.is_empty());
}

#[tokio::test]
async fn filters_narrow_the_list_and_combine() {
    let system = System::start().await;
    let (phone, watch) = (
        system.create_product(9).await,
        system.create_product(9).await,
    );
    let a = id(&system.reserve(phone, 1).await);
    let b = id(&system.reserve(watch, 1).await);
    let c = id(&system.reserve(phone, 2).await);
    assert_eq!(ids(&system, "user_id=1").await, [b, a]);
    assert_eq!(ids(&system, &format!("product_id={phone}")).await, [c, a]);
    let both = format!("user_id=1&product_id={phone}");
    assert_eq!(ids(&system, &both).await, [a]);
    assert!(ids(&system, "user_id=3").await.is_empty());
    assert!(
        ids(&system, "product_id=9223372036854775807")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn the_status_that_is_filtered_by_is_the_effective_one() {
    let system = System::start().await;
    let product = system.create_product(9).await;
    let swept = system.reserve(product, 1).await;
    system.backdate(&swept).await;
    system.expire_once().await;
    let mut holds = Vec::new();
    for user in 2..=6 {
        holds.push(system.reserve(product, user).await);
    }
    let [active, confirmed, canceled, due, active_too] = &holds[..] else {
        unreachable!()
    };
    system.confirm(confirmed).await;
    system.cancel(canceled).await;
    system.backdate(due).await;

    let expect = async |query: &str, status: &str, wanted: &[&Value]| {
        let listed = system.list(query).await;
        let wanted: Vec<i64> = wanted.iter().map(|hold| id(hold)).collect();
        assert_eq!(listed.iter().map(id).collect::<Vec<_>>(), wanted, "{query}");
        for reservation in listed {
            assert_eq!(reservation["status"], status);
            assert_eq!(reservation, system.look_up(&reservation).await);
        }
    };
    expect("status=ACTIVE", "ACTIVE", &[active_too, active]).await;
    expect("status=CONFIRMED", "CONFIRMED", &[confirmed]).await;
    expect("status=CANCELED", "CANCELED", &[canceled]).await;
    expect("status=EXPIRED", "EXPIRED", &[due, &swept]).await;
    expect("status=EXPIRED&limit=1", "EXPIRED", &[due]).await;
    expect("status=EXPIRED&offset=1", "EXPIRED", &[&swept]).await;
    expect("status=EXPIRED&user_id=1", "EXPIRED", &[&swept]).await;
    assert_eq!(system.list("").await.len(), 6);
}

#[tokio::test]
async fn a_bad_query_is_refused() {
    let system = System::start().await;
    for query in [
        "after_id=0",
        "after_id=x",
        "after_id=1&offset=0",
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=1.0",
        "limit=x",
        "limit=",
        "limit",
        "limit=%2B5",
        "limit=+5",
        "limit=99999999999999999999",
        "limit=1&limit=1",
        "offset=-1",
        "offset=x",
        "offset=9223372036854775808",
        "user_id=0",
        "user_id=-1",
        "user_id=abc",
        "user_id=",
        "user_id=9223372036854775808",
        "user_id=1&user_id=2",
        "user_id=1%00",
        "user_id=%FF",
        "product_id=0",
        "product_id=1.5",
        "product_id=1,2",
        "status=active",
        "status=PENDING",
        "status=",
        "status=ACTIVE&status=EXPIRED",
        "status=ACTIVE%20",
        "user=1",
        "Limit=1",
        "page=2",
        "=1",
    ] {
        let answer = system.get(&format!("/reservations?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        answer.expect_problem(400, "invalid_query");
    }
}

/// The URL of the next page in an answer's Link header, if any.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link");
    let address = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    Some(address.to_owned())
}

#[tokio::test]
async fn following_the_links_shows_each_row_once_whatever_is_made_meanwhile() {
    let system = System::start().await;
    let mut products = Vec::new();
    for _ in 0..5 {
        products.push(system.create_product(9).await);
    }
    let mut holds = Vec::new();
    for user in 1..=5 {
        holds.push(id(&system.reserve(products[0], user).await));
    }
    holds.reverse();
    for (first_page, expected, is_newest_first) in [
        ("/products?limit=2".to_owned(), &products, false),
        (
            "/reservations?limit=2&status=ACTIVE".to_owned(),
            &holds,
            true,
        ),
        (
            format!("/reservations?product_id={}&limit=2", products[0]),
            &holds,
            true,
        ),
        (
            "/reservations?status=ACTIVE&limit=1&offset=0".to_owned(),
            &holds,
            true,
        ),
    ] {
        let mut found = Vec::new();
        let mut address = Some(first_page.clone());
        while let Some(page) = address {
            let answer = system.get(&page).await;
            address = next(&answer);
            let rows = answer.expect(200);
            found.extend(rows.as_array().unwrap().iter().map(id));
            if is_newest_first {
                // A newer reservation shifts pages by offset, but not pages by id.
                system.reserve(products[1], 100 + found.len() as i64).await;
            }
        }
        assert_eq!(&found, expected, "{first_page}");
        if is_newest_first {
            let newer = system.list("limit=100").await;
            for hold in newer.iter().filter(|hold| !expected.contains(&id(hold))) {
                system.cancel(hold).await;
            }
        }
    }
    // Without parameters the product list is complete, and the last page has no link.
    let all = system.get("/products").await;
    assert_eq!(
        (next(&all), all.expect(200).as_array().unwrap().len()),
        (None, 5)
    );
    let last = system.get("/products?limit=5").await;
    assert_eq!(next(&last), None);
    for wrong in ["limit=0", "limit=101", "after_id=-1", "offset=1", "page=2"] {
        let answer = system.get(&format!("/products?{wrong}")).await;
        answer.expect_problem(400, "invalid_query");
    }
}
