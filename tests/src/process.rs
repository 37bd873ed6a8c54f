//! Runs the real binaries as processes.

#![allow(
    clippy::unwrap_used,
    reason = "what cannot be started fails the test, or the run"
)]

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use serde_json::Value;

use crate::wait::eventually;

/// A running binary. Dropping it kills it.
pub struct Child {
    process: std::process::Child,
    log: Arc<Mutex<Vec<Value>>>,
    reader: JoinHandle<()>,
}

/// Where a process's log goes, in addition to its [`Child`].
pub enum Log {
    /// To this program's own output, which libtest shows if the test fails.
    Shown,
    File(File),
}

/// Starts `target/…/NAME`, or a program by its absolute path, with only these settings in its environment.
pub fn start(name: &str, settings: &[(&str, &str)]) -> Child {
    start_with(name, &[], settings, Log::Shown)
}

/// The same with command line arguments.
pub fn start_with(name: &str, arguments: &[&str], settings: &[(&str, &str)], log: Log) -> Child {
    let mut command = Command::new(binary(name));
    command.args(arguments);
    run(name, command, settings, log)
}

/// The same, for a process that may open at most this many files.
pub fn start_with_files(name: &str, files: u32, settings: &[(&str, &str)]) -> Child {
    let limited = r#"ulimit -n "$0" && exec "$1""#;
    let wrapper = ["/bin/sh", "-c", limited, &files.to_string()].map(str::to_owned);
    start_through(&wrapper, name, settings, Log::Shown)
}

/// The same by a command that becomes the binary, such as one that enters a network namespace first.
pub(crate) fn start_through(
    wrapper: &[String],
    name: &str,
    settings: &[(&str, &str)],
    log: Log,
) -> Child {
    let Some((program, arguments)) = wrapper.split_first() else {
        return start_with(name, &[], settings, log);
    };
    let mut command = Command::new(program);
    command.args(arguments).arg(binary(name));
    run(name, command, settings, log)
}

fn run(name: &str, mut command: Command, settings: &[(&str, &str)], log: Log) -> Child {
    let mut shown = log;
    let (said, says) = std::io::pipe().unwrap();
    let process = command
        .env_clear()
        .env("LOG_FORMAT", "json")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(says.try_clone().unwrap())
        .stderr(says)
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&log);
    let name = name.to_owned();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            match &mut shown {
                Log::Shown => eprintln!("{name}: {line}"),
                // A full disk must not stop the process.
                Log::File(file) => drop(writeln!(file, "{line}")),
            }
            let entry = serde_json::from_str(&line).unwrap_or(Value::String(line));
            lines.lock().unwrap().push(entry);
        }
    });
    Child {
        process,
        log,
        reader,
    }
}

/// Runs it to its end, with these arguments and only these settings in its environment.
pub fn output(name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut process = Command::new(binary(name));
    process.args(arguments).env_clear();
    process.envs(settings.iter().copied()).output().unwrap()
}

/// The binaries are in the folder of this program, or of a test in the folder above.
fn binary(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.push(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --workspace --bins",
        path.display()
    );
    path
}

impl Child {
    /// The address that it listens on, from its log.
    pub async fn address(&mut self) -> String {
        let entry = self.logs("listening").await;
        entry["address"].as_str().unwrap().to_owned()
    }

    /// Waits for a log entry whose message contains `words`.
    pub async fn logs(&mut self, words: &str) -> Value {
        eventually(&format!("the log entry {words:?}"), async || {
            let entry = self.logged(words);
            if entry.is_none()
                && let Some(status) = self.process.try_wait().unwrap()
            {
                panic!("the process ended with {status} before it logged {words:?}");
            }
            entry
        })
        .await
    }

    /// The log entry whose message contains `words`, if there already is one.
    pub fn logged(&self, words: &str) -> Option<Value> {
        self.all_logged(words).into_iter().next()
    }

    /// All log entries until now whose message contains `words`.
    pub fn all_logged(&self, words: &str) -> Vec<Value> {
        let log = self.log.lock().unwrap();
        let said = |entry: &&Value| {
            let message = entry.get("message").unwrap_or(entry);
            message
                .as_str()
                .is_some_and(|message| message.contains(words))
        };
        log.iter().filter(said).cloned().collect()
    }

    /// Its whole log, after it has ended. A line that is not JSON becomes a string.
    pub async fn entries(&self) -> Vec<Value> {
        eventually("the end of its log", async || {
            self.reader.is_finished().then_some(())
        })
        .await;
        self.log.lock().unwrap().clone()
    }

    /// The same as text.
    pub async fn all_it_said(&self) -> String {
        let entries = self.entries().await;
        entries.iter().map(|entry| format!("{entry}\n")).collect()
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Freezes it until `thaw`.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        // The shell's builtin: not every machine has the program `kill`.
        let pid = self.process.id().to_string();
        let command = ["-c", r#"kill -s "$0" "$1""#, name, &pid];
        let sent = Command::new("sh").args(command).status().unwrap();
        assert!(sent.success());
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The most memory that it has used so far, in KiB.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn memory_peak_kib(&self) -> u64 {
        self.memory_kib("VmHWM")
    }

    /// The memory that it uses now and that the kernel cannot take away, in KiB: without the pages of its file.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn own_memory_kib(&self) -> u64 {
        self.memory_kib("RssAnon")
    }

    fn memory_kib(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let (_, rest) = status.split_once(&format!("\n{name}:")).expect(name);
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Kills it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits for its end.
    pub async fn ends(&mut self) -> ExitStatus {
        eventually("the end of the process", async || {
            self.process.try_wait().unwrap()
        })
        .await
    }

    /// Whether it is still running.
    pub fn runs(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail if it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
