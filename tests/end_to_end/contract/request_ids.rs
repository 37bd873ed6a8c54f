//! `X-Request-Id`.

use reqwest::{Method, RequestBuilder};

use crate::support::{Answer, System};

const HEADER: &str = "x-request-id";

fn good(system: &System) -> RequestBuilder {
    system.request(Method::GET, "/products")
}

fn refused(system: &System) -> RequestBuilder {
    system.request(Method::GET, "/products/999")
}

fn unknown(system: &System) -> RequestBuilder {
    system.request(Method::GET, "/nowhere")
}

/// The ids in the answers to these requests. Empty if there is none.
async fn ids(requests: impl IntoIterator<Item = RequestBuilder>) -> Vec<String> {
    let mut ids = Vec::new();
    for request in requests {
        ids.push(Answer::to(request).await.header(HEADER).to_owned());
    }
    ids
}

#[tokio::test]
async fn the_clients_own_comes_back() {
    let system = System::start().await;
    for id in [
        "7",
        "order-7/\"try\" 2".replace(' ', "_").as_str(),
        &"x".repeat(128),
    ] {
        let requests = [good(&system), refused(&system), unknown(&system)];
        let ids = ids(requests.map(|request| request.header(HEADER, id))).await;
        assert_eq!(ids, [id; 3]);
    }
}

#[tokio::test]
async fn what_cannot_be_an_id_is_left_alone() {
    let system = System::start().await;
    let too_long = "x".repeat(129);
    for id in [
        b"",
        &b"a b"[..],
        b"a\tb",
        "é".as_bytes(),
        too_long.as_bytes(),
    ] {
        let requests = [good(&system), refused(&system)];
        let ids = ids(requests.map(|request| request.header(HEADER, id))).await;
        assert_eq!(ids[0], "");
        assert_ne!(ids[1].as_bytes(), id);
    }
    let twice = |request: RequestBuilder| request.header(HEADER, "a").header(HEADER, "b");
    let ids = ids([twice(good(&system)), twice(refused(&system))]).await;
    assert_eq!(ids[0], "");
    assert!(!["", "a", "b"].contains(&&*ids[1]), "{ids:?}");
}

#[tokio::test]
async fn every_problem_has_one_that_no_other_has() {
    // Two processes, as behind a load balancer.
    let systems = [System::spawn(&[]).await, System::spawn(&[]).await];
    let mut all = Vec::new();
    for system in &systems {
        all.extend(ids([refused(system), unknown(system), refused(system)]).await);
        assert_eq!(ids([good(system)]).await, [""]);
    }
    assert!(all.iter().all(|id| !id.is_empty()), "{all:?}");
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count, "{all:?}");
}
