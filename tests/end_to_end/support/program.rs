//! A program that a test talks with: lines of its output, and lines for its input.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use super::eventually;

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    process: Child,
    input: Option<ChildStdin>,
    /// All lines so far, of both outputs.
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{error}: {command:?}"));
        let lines = Arc::default();
        collect(process.stdout.take().unwrap(), &lines);
        collect(process.stderr.take().unwrap(), &lines);
        Self {
            input: process.stdin.take(),
            process,
            lines,
        }
    }

    /// Waits for the next line that begins with these words. Returns the rest of the line.
    pub(crate) async fn says(&mut self, words: &str) -> String {
        eventually(&format!("a line {words:?}"), async || {
            let mut lines = self.lines.lock().unwrap();
            let found = lines.iter().position(|line| line.starts_with(words))?;
            let line = lines.remove(found);
            Some(line[words.len()..].trim().to_owned())
        })
        .await
    }

    /// Presses Enter.
    pub(crate) fn enter(&mut self) {
        let input = self.input.as_mut().unwrap();
        input.write_all(b"\n").unwrap();
        input.flush().unwrap();
    }

    /// Waits until it ends by itself, with success.
    pub(crate) async fn ends(&mut self) {
        let status = eventually("the end of the program", async || {
            self.process.try_wait().unwrap()
        })
        .await;
        assert!(
            status.success(),
            "{status}: {:?}",
            self.lines.lock().unwrap()
        );
    }
}

/// Collects the lines in a thread of its own: the test's own tasks must go on, for example its proxies.
fn collect(output: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Shown by libtest if the test fails.
            eprintln!("{line}");
            lines.lock().unwrap().push(line);
        }
    });
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
