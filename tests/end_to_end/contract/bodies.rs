//! Invalid bodies: each is refused with its own reason, and none has an effect.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, System, Wire};

const LIMIT: usize = 16 * 1024;

#[tokio::test]
async fn what_is_not_json_is_called_that() {
    let system = System::start().await;
    for body in [
        "",
        " ",
        "{",
        "nonsense",
        r#"{"product_id":1,"user_id":1"#,
        r#"{"product_id":1,"user_id":1}}"#,
        r#"{"product_id":1,"user_id":1} x"#,
        r#"{"product_id":1,"user_id":1,}"#,
        r#"{product_id:1,"user_id":1}"#,
        r#"{"product_id":01,"user_id":1}"#,
        r#"{"product_id":+1,"user_id":1}"#,
        r#"{"product_id":NaN,"user_id":1}"#,
        // An invalid value before a syntax error.
        r#"{"product_id":"x","user_id":1"#,
        r#"{"surplus":1,"user_id":"#,
        r#"[1,"#,
    ] {
        for path in ["/reservations", "/products"] {
            let answer = system.post_raw(path, body).await;
            let problem = answer.expect_problem(400, "invalid_json");
            assert_eq!(problem["title"], "The body is not JSON", "{body}");
        }
    }
}

#[tokio::test]
async fn json_is_utf8() {
    let system = System::start().await;
    let body = b"{\"name\":\"\xff\",\"stock\":1}";
    let answer = system.post_raw("/products", body.as_slice()).await;
    answer.expect_problem(400, "invalid_json");
    // Half a surrogate pair is valid JSON syntax, but not a character.
    let answer = system
        .post_raw("/products", r#"{"name":"\ud800","stock":1}"#)
        .await;
    assert!([400, 422].contains(&answer.status.as_u16()), "{answer:?}");
    assert_eq!(system.get("/products").await.expect(200), json!([]));
}

#[tokio::test]
async fn json_that_is_no_reservation_is_an_invalid_request() {
    let system = System::start().await;
    let product = system.create_product(10).await;
    for body in [
        "null",
        "1",
        "\"x\"",
        "[]",
        "[1,1]",
        "[[1,1]]",
        "{}",
        r#"{"product_id":1}"#,
        r#"{"user_id":1}"#,
        r#"{"product_id":1,"user_id":1,"surplus":1}"#,
        r#"{"product_id":1,"user_id":1,"reference":""}"#,
        r#"{"product_id":1,"user_id":1,"reference":7}"#,
        r#"{"product_id":1,"user_id":1,"reference":"nul\u0000"}"#,
        r#"{"product_id":1,"user_id":1,"product_id":1}"#,
        r#"{"product_id":1,"user_id":1,"user_id":2}"#,
        r#"{"Product_id":1,"user_id":1}"#,
        r#"{"product_id":1,"user_id":1.5}"#,
    ] {
        let answer = system.post_raw("/reservations", body).await;
        answer.expect_problem(422, "invalid_request");
    }
    for wrong in [
        "null",
        "true",
        "\"1\"",
        "{}",
        "[1]",
        "0",
        "-1",
        "-0",
        "1.5",
        "15e-1",
        "1e400",
        // Parsers round it.
        "9007199254740993.0",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999999999999999999999999",
    ] {
        let of_product = format!(r#"{{"product_id":{wrong},"user_id":1}}"#);
        let of_user = format!(r#"{{"product_id":{product},"user_id":{wrong}}}"#);
        let quantity = format!(r#"{{"product_id":{product},"user_id":1,"quantity":{wrong}}}"#);
        for body in [of_product, of_user, quantity] {
            let answer = system.post_raw("/reservations", body).await;
            answer.expect_problem(422, "invalid_request");
        }
    }
    assert_eq!(system.stock(product).await, 10);
}

#[tokio::test]
async fn json_that_is_no_product_is_an_invalid_request() {
    let system = System::start().await;
    for body in [
        r#"["x",1]"#,
        r#"{"name":"x"}"#,
        r#"{"stock":1}"#,
        r#"{"name":1,"stock":1}"#,
        r#"{"name":null,"stock":1}"#,
        r#"{"name":"x","stock":"1"}"#,
        r#"{"name":"x","stock":null}"#,
        r#"{"name":"x","stock":[1]}"#,
        r#"{"name":"x","stock":1,"total":1}"#,
        r#"{"name":"x","stock":1,"id":1}"#,
        r#"{"name":"x","stock":1,"stock":2}"#,
        r#"{"name":"x","stock":1e400}"#,
    ] {
        let answer = system.post_raw("/products", body).await;
        answer.expect_problem(422, "invalid_request");
    }
    assert_eq!(system.get("/products").await.expect(200), json!([]));
}

#[tokio::test]
async fn the_order_of_fields_and_white_space_do_not_matter() {
    let system = System::start().await;
    let product = system.create_product(1).await;
    let body = format!("\r\n\t {{ \"user_id\" : 1 ,\n\"product_id\" : {product} }} \n");
    system.post_raw("/reservations", body).await.expect(201);
}

#[tokio::test]
async fn a_whole_number_may_have_a_fraction_or_an_exponent_that_is_nothing() {
    let system = System::start().await;
    let product = system.create_product(10).await;
    for (user, quantity) in [("1.0", "1e0"), ("20e-1", "1.0"), ("0.3e1", "1")] {
        let body =
            format!(r#"{{"product_id":{product}.0,"user_id":{user},"quantity":{quantity}}}"#);
        let hold = system.post_raw("/reservations", body).await.expect(201);
        assert!(hold["user_id"].is_i64() && hold["quantity"] == 1, "{hold}");
    }
    assert_eq!(system.stock(product).await, 7);
}

#[tokio::test]
async fn only_json_media_types_are_read() {
    let system = System::start().await;
    let product = system.create_product(10).await;
    let body = |user: i64| json!({"product_id": product, "user_id": user}).to_string();
    let send = async |media_type: &str, user| {
        let request = system
            .request(Method::POST, "/reservations")
            .header("content-type", media_type);
        Answer::to(request.body(body(user))).await
    };
    for (user, media_type) in [
        (1, "application/json"),
        (2, "application/json; charset=utf-8"),
        (3, "Application/JSON;charset=UTF-8"),
        (4, "application/vnd.shop+json"),
        (5, "application/json;  charset=\"utf-8\" ;"),
    ] {
        send(media_type, user).await.expect(201);
    }
    for media_type in [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/octet-stream",
        "json",
        "application/+json",
        "application/a b+json",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
        "application/json; charset=us-ascii",
        "application/json; charset",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; profile=x",
        "application/json charset=utf-8",
        "\u{e9}",
    ] {
        let answer = send(media_type, 6).await;
        answer.expect_problem(415, "unsupported_media_type");
    }
    let untyped = system.request(Method::POST, "/reservations").body(body(6));
    let answer = Answer::to(untyped).await;
    answer.expect_problem(415, "unsupported_media_type");
    assert_eq!(system.stock(product).await, 5);
}

#[tokio::test]
async fn what_a_header_says_of_a_body_is_never_ignored() {
    let system = System::start().await;
    let product = system.create_product(10).await;
    let hold = system.reserve(product, 1).await;
    let confirm = format!("/reservations/{}/confirm", hold["id"]);
    let reserve = json!({"product_id": product, "user_id": 2});
    let wrong = [
        ("content-encoding", "gzip"),
        ("content-encoding", "br"),
        ("content-encoding", "identity, gzip"),
        ("content-encoding", "x"),
        ("content-type", "application/json"),
        ("content-type", "text/plain"),
        ("content-range", "bytes 0-9/20"),
        (
            "content-digest",
            "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
        ),
        (
            "repr-digest",
            "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
        ),
        ("digest", "md5=x"),
        ("content-md5", "x"),
    ];
    for header in wrong {
        for (path, body) in [("/reservations", &reserve), (&confirm, &json!({}))] {
            let request = system.request(Method::POST, path).json(body);
            let headers = request.build().unwrap().headers().clone();
            let request = system.request(Method::POST, path).headers(headers);
            let request = request.header(header.0, header.1).body(body.to_string());
            let answer = Answer::to(request).await;
            answer.expect_problem(415, "unsupported_media_type");
        }
        // Without a body they say nothing.
        let empty = system.request(Method::POST, "/reservations/999/confirm");
        let answer = Answer::to(empty.header(header.0, header.1)).await;
        answer.expect_problem(404, "reservation_not_found");
    }
    let request = system.request(Method::POST, "/reservations").json(&reserve);
    let request = request
        .header("content-encoding", "identity")
        .header("content-language", "en");
    Answer::to(request).await.expect(201);

    let body = reserve.to_string();
    let mut wire = Wire::to(&system).await;
    wire.send(&format!(
        "POST /reservations HTTP/1.1\r\nhost: api\r\ncontent-type: application/json\r\n\
         transfer-encoding: gzip, chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    ))
    .await;
    let answer = wire.receive().await;
    assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
}

#[tokio::test]
async fn a_body_has_at_most_16_kib() {
    let system = System::start().await;
    let product = system.create_product(10).await;
    let mut body = json!({"product_id": product, "user_id": 1}).to_string();
    body.extend(std::iter::repeat_n(' ', LIMIT - body.len()));
    system
        .post_raw("/reservations", body.clone())
        .await
        .expect(201);
    body.push(' ');
    let answer = system.post_raw("/reservations", body).await;
    answer.expect_problem(413, "body_too_large");
    let answer = system.post_raw("/products", vec![b'x'; 4 * LIMIT]).await;
    answer.expect_problem(413, "body_too_large");
}

#[tokio::test]
async fn a_body_of_unknown_length_has_at_most_16_kib_too() {
    let system = System::start().await;
    let mut wire = Wire::to(&system).await;
    wire.send(
        "POST /reservations HTTP/1.1\r\nhost: api\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n",
    )
    .await;
    let kib = " ".repeat(1024);
    for _ in 0..=16 {
        wire.send(&format!("400\r\n{kib}\r\n")).await;
    }
    let answer = wire.receive().await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("body_too_large"), "{answer}");
}

#[tokio::test]
async fn a_declared_length_is_not_waited_for_when_it_is_too_large() {
    let system = System::start().await;
    let mut wire = Wire::to(&system).await;
    wire.send(
        "POST /reservations HTTP/1.1\r\nhost: api\r\ncontent-type: application/json\r\n\
         content-length: 1000000000\r\n\r\n{",
    )
    .await;
    let answer = wire.receive().await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}
