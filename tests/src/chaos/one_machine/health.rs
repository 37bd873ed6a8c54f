//! What works on one machine.

use super::{
    links::{End, LINKS, MEMBERS},
    stack::Stack,
};

/// Whether the `/readyz` of a process reports a server as up. Asked directly, not through a proxy.
pub(crate) async fn sees(stack: &Stack, member: usize, end: End) -> bool {
    let name = match end {
        End::Postgres => "postgres",
        End::Redis => "redis",
        End::Rabbitmq => "rabbitmq",
        End::Clients => return true,
    };
    let url = format!("http://{}/readyz", stack.members[member].address());
    let answer = stack.http.get(url).send().await;
    let Ok(answer) = answer else { return false };
    let body: serde_json::Value = answer.json().await.unwrap_or_default();
    body["dependencies"][name] == "up"
}

/// The processes that do not report a server as up.
pub(crate) async fn not_well(stack: &Stack) -> Vec<String> {
    let mut not_well = Vec::new();
    for (member, end) in LINKS {
        if !sees(stack, member, end).await {
            not_well.push(format!("{} does not see {end:?}", MEMBERS[member]));
        }
    }
    not_well
}
