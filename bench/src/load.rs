//! The load: wrk with `reserve.lua`, or with a script that extends it.

use std::{
    cell::Cell,
    collections::HashMap,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::process::Command;

use crate::stats::Latency;

const RESERVE: &str = include_str!("../reserve.lua");
/// The other scripts are appended to it in one file, and use its functions.
const SCRIPTS: [(&str, &str); 5] = [
    ("reserve.lua", ""),
    ("read.lua", include_str!("../read.lua")),
    ("lifecycle.lua", include_str!("../lifecycle.lua")),
    ("keyed.lua", include_str!("../keyed.lua")),
    ("api_key.lua", include_str!("../api_key.lua")),
];

/// Users have 12 digits, so that all bodies have the same length. Loads at this distance may share users, but never a
/// database.
const FIRST_USER: u64 = 100_000_000_000;
const USERS_OF_A_LOAD: u64 = 100_000_000;
const LOADS: u64 = 8_000;

#[derive(Clone, Copy)]
pub(crate) enum Script<'a> {
    Reserve,
    /// The first product is read, and none is reserved.
    Read,
    /// Each hold is confirmed. The first has this id, and the ids are consecutive.
    Lifecycle {
        first_hold: i64,
    },
    /// Each request has a unique Idempotency-Key.
    Keyed,
    /// Each request has this API key.
    ApiKey(&'a str),
}

impl Script<'_> {
    fn file(self) -> &'static str {
        match self {
            Self::Reserve => "reserve.lua",
            Self::Read => "read.lua",
            Self::Lifecycle { .. } => "lifecycle.lua",
            Self::Keyed => "keyed.lua",
            Self::ApiKey(_) => "api_key.lua",
        }
    }

    /// The additional argument of the script.
    fn argument(self) -> Option<String> {
        match self {
            Self::Reserve | Self::Read | Self::Keyed => None,
            Self::Lifecycle { first_hold } => Some(first_hold.to_string()),
            Self::ApiKey(key) => Some(key.to_owned()),
        }
    }
}

/// The parameters of one wrk.
pub(crate) struct Plan<'a> {
    pub(crate) script: Script<'a>,
    pub(crate) base_url: &'a str,
    pub(crate) connections: u32,
    pub(crate) threads: u32,
    pub(crate) seconds: u32,
    pub(crate) first_product: i64,
    pub(crate) products: u32,
}

/// The results of wrk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Seen {
    /// Answers with any status.
    pub(crate) requests: u64,
    /// Answers with a status of 400 or more.
    pub(crate) refused: u64,
    /// Failures to connect, read or write, and timeouts.
    pub(crate) socket_errors: u64,
    pub(crate) seconds: f64,
    /// Reported separately.
    #[serde(skip)]
    pub(crate) latency: Latency,
    pub(crate) cpu_seconds: f64,
}

impl Seen {
    /// Combines the results of several wrk that ran at the same time. Percentiles cannot be added: the slowest stand
    /// for all.
    pub(crate) fn together(parts: &[Self]) -> Self {
        let count = |of: fn(&Self) -> u64| parts.iter().map(of).sum();
        let most = |of: fn(&Self) -> f64| parts.iter().map(of).fold(0.0, f64::max);
        Self {
            requests: count(|seen| seen.requests),
            refused: count(|seen| seen.refused),
            socket_errors: count(|seen| seen.socket_errors),
            seconds: most(|seen| seen.seconds),
            latency: Latency {
                p50_ms: most(|seen| seen.latency.p50_ms),
                p99_ms: most(|seen| seen.latency.p99_ms),
            },
            cpu_seconds: parts.iter().map(|seen| seen.cpu_seconds).sum(),
        }
    }
}

/// Distributes connections among copies as evenly as possible, at least one each.
pub(crate) fn shares(connections: u32, copies: u32) -> impl Iterator<Item = u32> {
    (0..copies).map(move |copy| {
        let rest = u32::from(copy < connections % copies);
        (connections / copies + rest).max(1)
    })
}

/// wrk, with its scripts in a folder.
pub(crate) struct Wrk {
    folder: PathBuf,
    loads: Cell<u64>,
}

impl Wrk {
    /// Fails with instructions if wrk is missing.
    pub(crate) async fn find() -> anyhow::Result<()> {
        // wrk has no option that succeeds without doing anything.
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

    /// Writes the scripts into the folder, once: several wrk read them at the same time.
    pub(crate) fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        for (file, text) in SCRIPTS {
            let path = folder.join(file);
            std::fs::write(&path, RESERVE.to_owned() + text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            loads: Cell::new(0),
        })
    }

    /// Runs wrk to its end. Its users differ from those of other loads.
    pub(crate) async fn run(&self, plan: &Plan<'_>) -> anyhow::Result<Seen> {
        self.loads.set(self.loads.get() + 1);
        let wrk = wrk()
            .args(["--threads", &plan.threads.to_string()])
            .args(["--connections", &plan.connections.to_string()])
            .args(["--duration", &format!("{}s", plan.seconds)])
            .args(["--timeout", "5s", "--script"])
            .arg(self.folder.join(plan.script.file()))
            .arg(plan.base_url)
            .args(["--", &plan.threads.to_string()])
            .arg(plan.first_product.to_string())
            .arg(plan.products.to_string())
            .arg(first_user(self.loads.get()).to_string())
            .args(plan.script.argument())
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
}

fn wrk() -> Command {
    let mut command = Command::new("wrk");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn first_user(load: u64) -> u64 {
    FIRST_USER + load % LOADS * USERS_OF_A_LOAD
}

/// Parses the last line of `reserve.lua`.
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
            .with_context(|| format!("wrk reported an invalid {name}: {line}"))
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
        bail!("wrk reported impossible values: {line}");
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
    fn several_at_the_same_time_add_up() {
        let one = parse(LINE).expect("a report");
        let other = Seen {
            requests: 6_000,
            refused: 0,
            seconds: 2.5,
            latency: Latency {
                p50_ms: 9.0,
                p99_ms: 12.0,
            },
            ..one.clone()
        };
        let expected = Seen {
            requests: 60_000,
            refused: 7,
            socket_errors: 20,
            seconds: 2.5,
            latency: Latency {
                p50_ms: 9.0,
                p99_ms: 21.24,
            },
            cpu_seconds: 2.68,
        };
        assert_eq!(Seen::together(&[one, other]), expected);
    }

    #[test]
    fn connections_are_dealt_out_whole() {
        let shares = |connections, copies| shares(connections, copies).collect::<Vec<_>>();
        assert_eq!(shares(256, 1), [256]);
        assert_eq!(shares(256, 4), [64, 64, 64, 64]);
        assert_eq!(shares(7, 4), [2, 2, 2, 1]);
        assert_eq!(shares(2, 4), [1, 1, 1, 1]);
    }

    #[test]
    fn users_have_12_digits_however_many_loads_there_are() {
        for load in [0, 1, LOADS - 1, LOADS, 123_456] {
            let last = first_user(load) + USERS_OF_A_LOAD - 1;
            assert_eq!(last.to_string().len(), 12, "{load}");
        }
        assert!(first_user(2) - first_user(1) >= USERS_OF_A_LOAD);
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
