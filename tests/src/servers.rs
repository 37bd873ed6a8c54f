//! Private servers for tests that stop or kill them.

#![allow(
    clippy::unwrap_used,
    reason = "what cannot be started fails the test, or the run"
)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

#[derive(Clone, Copy)]
pub enum Service {
    Postgres,
    Redis,
    Rabbitmq,
}

/// A server of one test, on the same port after each start. Dropping it kills it and removes its data, even after a
/// panic.
pub struct Server {
    service: Service,
    folder: PathBuf,
    options: Vec<(String, String)>,
    /// Its URL, with user and password.
    pub url: String,
}

impl Server {
    pub fn start_new(service: Service) -> Self {
        Self::start_with(service, &[])
    }

    /// `options` are environment variables of `server.sh`.
    pub fn start_with(service: Service, options: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("flashsale-it-{}-{number}", std::process::id());
        let mut server = Self {
            service,
            folder: std::env::temp_dir().join(name),
            options: options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            url: String::new(),
        };
        server.url = server.start();
        server
    }

    /// Starts it and waits until it is ready. Returns its URL.
    pub fn start(&self) -> String {
        self.run(&["start"])
    }

    /// Stops it in order, as an operator would. Returns when it has ended.
    pub fn stop(&self) {
        self.run(&["stop"]);
    }

    /// Kills it, as a crash would. Returns when it has ended.
    pub fn kill(&self) {
        self.run(&["kill"]);
    }

    /// Takes a base backup of a PostgreSQL with an archive.
    pub fn backup(&self) {
        self.run(&["backup"]);
    }

    /// Kills this PostgreSQL and starts it again as it was at a restore point. Returns when it accepts writes.
    pub fn restore(&self, point: &str) {
        self.run(&["restore", point]);
    }

    /// Runs `rabbitmqctl` on it. The error is the program's output.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new(script("rabbitmqctl.sh"));
        command.arg(&self.folder).args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        output
            .status
            .success()
            .then_some(())
            .ok_or_else(|| format!("{arguments:?}: {errors}"))
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        let after_user = self.url.rsplit(['@', '/']).nth(1).unwrap();
        after_user.to_owned()
    }

    /// An action, and its argument behind the folder.
    fn run(&self, action: &[&str]) -> String {
        let output = self.command(action).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{action:?}: {errors}");
        said
    }

    fn command(&self, action: &[&str]) -> Command {
        let service = match self.service {
            Service::Postgres => "postgres",
            Service::Redis => "redis",
            Service::Rabbitmq => "rabbitmq",
        };
        let mut command = Command::new(script("server.sh"));
        command
            .args([service, action[0]])
            .arg(&self.folder)
            .args(&action[1..])
            .envs(self.options.clone())
            .stdin(Stdio::null());
        command
    }
}

/// A script in `deploy/local`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/local")
        .join(name)
}

impl Drop for Server {
    fn drop(&mut self) {
        // Files that cannot be removed stay in the temporary folder.
        let _ = self.command(&["erase"]).output();
    }
}
