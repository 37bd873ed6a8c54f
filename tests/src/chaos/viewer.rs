//! A viewer of each API's live page, which reconnects whenever the stream is lost.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{
    access::Access,
    clock::now,
    history::{Shown, View},
    journal::Journal,
    parse::{instant, product},
};

/// As in the page: a message comes each second, and after this time without one the page reconnects.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(500);

/// After this many messages the viewer closes the connection and reconnects at once.
const STAY: usize = 15;

/// Every n-th connection sends no `Last-Event-ID`, as a newly opened page.
const FORGETS_EVERY: usize = 4;

/// Watches forever.
pub(crate) async fn watch(
    api: usize,
    access: Arc<Access>,
    journal: Arc<Journal>,
) -> anyhow::Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut last = None;
    for connection in 0.. {
        if connection % FORGETS_EVERY == 0 {
            last = None;
        }
        let url = format!("http://{}/admin/live", access.pages[api]);
        let mut request = access.authorize(http.get(url));
        if let Some(last) = &last {
            request = request.header("last-event-id", last);
        }
        let mut viewer = Viewer {
            api,
            connection,
            after: last.clone(),
            journal: &journal,
        };
        // The cause does not matter: the viewer reconnects.
        if viewer.read(request, &mut last).await.is_err() {
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

struct Viewer<'a> {
    api: usize,
    connection: usize,
    /// The `Last-Event-ID` that it sent.
    after: Option<String>,
    journal: &'a Journal,
}

impl Viewer<'_> {
    async fn read(
        &mut self,
        request: reqwest::RequestBuilder,
        last: &mut Option<String>,
    ) -> anyhow::Result<()> {
        let mut response = timeout(SILENCE_LIMIT, request.send()).await??;
        if response.status() != StatusCode::OK {
            let answer = format!("{}: {}", response.status(), response.text().await?);
            self.note(Err(answer));
            anyhow::bail!("no stream");
        }
        let mut received = Vec::new();
        let mut messages = 0;
        while messages < STAY {
            let chunk = timeout(SILENCE_LIMIT, response.chunk()).await??;
            received.extend_from_slice(&chunk.context("the stream has ended")?);
            while let Some(length) = received.windows(2).position(|two| two == b"\n\n") {
                let message: Vec<u8> = received.drain(..length + 2).collect();
                let text = String::from_utf8_lossy(&message);
                let view = view(&text).ok_or_else(|| text.to_string());
                if let Ok(view) = &view {
                    *last = Some(format!("{}-{}", view.epoch, view.number));
                }
                self.note(view);
                messages += 1;
            }
        }
        Ok(())
    }

    fn note(&mut self, message: Result<View, String>) {
        let shown = Shown {
            at: now(),
            connection: self.connection,
            after: self.after.clone(),
            message,
        };
        self.journal.shown(self.api, shown);
    }
}

/// Parses a message. `None` if any part is invalid.
fn view(text: &str) -> Option<View> {
    let line = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let (epoch, number) = line("id")?.split_once('-')?;
    let whole = match line("event")? {
        "state" => true,
        "tick" => false,
        _ => return None,
    };
    let body: Value = serde_json::from_str(line("data")?).ok()?;
    instant(&body["at"])?;
    for server in ["postgres", "redis", "rabbitmq"] {
        let known = ["up", "down", "unknown"];
        body["servers"][server]
            .as_str()
            .filter(|how| known.contains(how))?;
    }
    for process in body["processes"].as_array()? {
        process["alive"].as_bool()?;
    }
    body["feed"].as_array()?;
    body["expiry"]["lag_seconds"].as_f64()?;
    let counts = |part: &Value| part.is_null() || part["reserved"].is_number();
    let clean = &body["audit"]["clean"];
    let right = counts(&body["rates"])
        && counts(&body["funnel"])
        && (body["audit"].is_null() || clean.is_boolean())
        && body["history"]["at"].is_array() == whole;
    right.then_some(())?;
    let alert = |alert: &Value| Some((text_of(&alert["code"])?, text_of(&alert["title"])?));
    Some(View {
        epoch: epoch.to_owned(),
        number: number.parse().ok()?,
        whole,
        alerts: body["alerts"]
            .as_array()?
            .iter()
            .map(alert)
            .collect::<Option<_>>()?,
        clean: clean.as_bool(),
        products: body["products"]
            .as_array()?
            .iter()
            .map(product)
            .collect::<Option<_>>()?,
        waiting_events: body["outbox"]["depth"].as_i64()?,
        dead_events: body["outbox"]["dead"].as_i64()?,
    })
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: &str = r#"{"at":"2026-02-14T12:30:00Z","alerts":[{"code":"redis_down","title":"Redis","meaning":"","action":""}],
        "servers":{"postgres":"up","redis":"down","rabbitmq":"unknown"},"processes":[{"alive":true}],"rates":null,
        "funnel":null,"expiry":{"lag_seconds":0.0},"outbox":{"depth":2,"oldest_age_seconds":0.1,"dead":1},
        "audit":{"clean":true},"products_shown":"all","feed":[],
        "products":[{"id":1,"stock":1,"held":0,"sold":1,"total":2}]}"#;

    fn message(event: &str, data: &str) -> Option<View> {
        view(&format!(
            "id: 0a-17\nevent: {event}\ndata: {}\n\n",
            data.replace('\n', "")
        ))
    }

    #[test]
    fn a_message_is_read_in_every_part_or_not_at_all() {
        let read = message("tick", TICK).expect("a message");
        assert_eq!(
            (read.epoch.as_str(), read.number, read.whole),
            ("0a", 17, false)
        );
        assert_eq!(read.alerts[0].0, "redis_down");
        assert_eq!((read.clean, read.products[0].sold), (Some(true), 1));
        assert_eq!((read.waiting_events, read.dead_events), (2, 1));
        // A state has a history, and a tick has none.
        assert!(message("state", TICK).is_none());
        let state = TICK.replacen("\"feed\"", "\"history\":{\"at\":[]},\"feed\"", 1);
        assert!(message("state", &state).is_some_and(|read| read.whole));
        assert!(message("tick", &state).is_none());
        for (part, broken) in [
            ("\"up\"", "\"gone\""),
            ("\"sold\"", "\"x\""),
            ("\"code\"", "\"x\""),
            ("2026-", ""),
        ] {
            assert!(
                message("tick", &TICK.replacen(part, broken, 1)).is_none(),
                "{part}"
            );
        }
        assert!(message("tick", &TICK[..TICK.len() - 1]).is_none());
    }
}
