//! The load: wrk with `reserve.lua`, or `lifecycle.lua` that builds on it.

use std::{collections::HashMap, io::ErrorKind, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::process::Command;

use crate::stats::Latency;

const RESERVE: &str = include_str!("../reserve.lua");
const LIFECYCLE: &str = include_str!("../lifecycle.lua");

/// Users of a load have 12 digits.
const FIRST_USER: u64 = 100_000_000_000;

#[derive(Clone, Copy)]
pub(crate) enum Script {
    Reserve,
    /// Each hold is confirmed. The first one has this id, the others those that follow.
    Lifecycle {
        first_hold: i64,
    },
}

/// What wrk shall do.
pub(crate) struct Plan<'a> {
    pub(crate) script: Script,
    pub(crate) base_url: &'a str,
    pub(crate) connections: u32,
    pub(crate) seconds: u32,
    pub(crate) first_product: i64,
    pub(crate) products: u32,
    /// Users of different loads are different: the load's number is a part of theirs.
    pub(crate) number: u64,
}

/// What wrk saw.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Seen {
    /// Answers of any kind.
    pub(crate) requests: u64,
    /// Those with a status of 400 or more.
    pub(crate) refused: u64,
    /// Failures to connect, read or write, and time-outs.
    pub(crate) socket_errors: u64,
    pub(crate) seconds: f64,
    /// Written beside this.
    #[serde(skip)]
    pub(crate) latency: Latency,
    pub(crate) cpu_seconds: f64,
}

/// Fails with what to do about it when there is no wrk.
pub(crate) async fn find_wrk() -> anyhow::Result<()> {
    // wrk knows no option that succeeds and does nothing.
    match wrk()
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await
    {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "wrk, which makes the load, is not on the PATH. On Debian or Ubuntu: apt-get install wrk"
        ),
        other => other.map(drop).context("cannot run wrk"),
    }
}

fn wrk() -> Command {
    let mut command = Command::new("wrk");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs wrk to its end. `folder` is where its script is put.
pub(crate) async fn run(plan: &Plan<'_>, folder: &Path) -> anyhow::Result<Seen> {
    let (text, first_hold) = match plan.script {
        Script::Reserve => (RESERVE.to_owned(), None),
        Script::Lifecycle { first_hold } => (RESERVE.to_owned() + LIFECYCLE, Some(first_hold)),
    };
    let script = folder.join("load.lua");
    std::fs::write(&script, text).with_context(|| format!("cannot write {}", script.display()))?;
    // Two threads make a fifth more requests than one on two cores, and more of them nothing.
    let threads = plan.connections.min(2);
    let wrk = wrk()
        .args(["--threads", &threads.to_string()])
        .args(["--connections", &plan.connections.to_string()])
        .args(["--duration", &format!("{}s", plan.seconds)])
        .args(["--timeout", "5s", "--script"])
        .arg(&script)
        .arg(plan.base_url)
        .args(["--", &threads.to_string()])
        .arg(plan.first_product.to_string())
        .arg(plan.products.to_string())
        .arg((FIRST_USER + plan.number * 1_000_000_000).to_string())
        .args(first_hold.map(|id| id.to_string()))
        .output();
    let limit = Duration::from_secs(u64::from(plan.seconds) + 30);
    let output = tokio::time::timeout(limit, wrk)
        .await
        .context("wrk did not end in time")?
        .context("cannot run wrk")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("wrk failed: {said}{errors}");
    }
    parse(&said)
}

/// Reads the line that `reserve.lua` writes at the end.
fn parse(said: &str) -> anyhow::Result<Seen> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("load: "))
        .with_context(|| format!("wrk has not reported its load: {said}"))?;
    let fields: HashMap<&str, &str> = line
        .split_whitespace()
        .filter_map(|field| field.split_once('='))
        .collect();
    let number = |name: &str| -> anyhow::Result<u64> {
        let text = fields
            .get(name)
            .with_context(|| format!("wrk has not reported {name}: {line}"))?;
        text.parse()
            .with_context(|| format!("wrk reports a strange {name}: {line}"))
    };
    let seen = Seen {
        requests: number("requests")?,
        refused: number("refused")?,
        socket_errors: number("connect")? + number("read")? + number("write")? + number("timeout")?,
        seconds: number("duration_us")? as f64 / 1e6,
        latency: Latency {
            p50_ms: number("p50_us")? as f64 / 1e3,
            p99_ms: number("p99_us")? as f64 / 1e3,
        },
        cpu_seconds: number("cpu_ticks")? as f64 / crate::machine::TICKS_PER_SECOND,
    };
    if seen.refused > seen.requests || seen.seconds <= 0.0 {
        bail!("wrk reports what cannot be: {line}");
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "load: requests=54000 refused=7 connect=1 read=2 write=3 timeout=4 \
        duration_us=2000000 p50_us=5210 p99_us=21240 cpu_ticks=134";

    #[test]
    fn the_line_is_found_among_what_wrk_says() {
        let said = format!("Running 2s test @ http://127.0.0.1:1\n  2 threads\n{LINE}\n");
        let seen = parse(&said).expect("a report");
        let expected = Seen {
            requests: 54_000,
            refused: 7,
            socket_errors: 10,
            seconds: 2.0,
            latency: Latency {
                p50_ms: 5.21,
                p99_ms: 21.24,
            },
            cpu_seconds: 1.34,
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_report_with_gaps_or_nonsense_is_an_error() {
        for said in [
            String::new(),
            "unable to connect to 127.0.0.1:1 Connection refused".to_owned(),
            LINE.replace("p99_us=21240", ""),
            LINE.replace("p50_us=5210", "p50_us=-nan"),
            LINE.replace("refused=7", "refused=54001"),
            LINE.replace("duration_us=2000000", "duration_us=0"),
        ] {
            assert!(parse(&said).is_err(), "{said}");
        }
    }
}
