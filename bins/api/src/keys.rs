//! The API keys of the shops' backends. This module reads the file of keys and finds the client of a key.
//!
//! The file has a hash of each key, so that a reader of the file cannot use the key. SHA-256 is enough: a key has
//! 256 random bits, so a fast hash does not make guessing possible. A slow password hash would only cost time with
//! every request.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use prometheus::IntCounterVec;
use ring::{
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use runtime::Process;
use subtle::ConstantTimeEq as _;
use tokio::{task::spawn_blocking, time::sleep};

/// Time between two reads of the file. Each read is a full read. A mounted Kubernetes Secret changes through a
/// symbolic link in its path, so the file's modification time and its directory do not always show the change.
const READ_EVERY: Duration = Duration::from_secs(1);

/// The prefix of every key. It distinguishes a key from a hash, and secret scanners can recognize it.
const PREFIX: &str = "fsk_";

const NAME_MAX_BYTES: usize = 64;

/// The client of a request: the backend that its key belongs to.
#[derive(Clone, Default)]
pub(crate) struct Client(Option<Arc<str>>);

impl Client {
    /// The client's name in the file of keys. It is empty if no keys are in use, and for the admin.
    pub(crate) fn name(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// The valid keys. Clones share them.
#[derive(Clone)]
pub(crate) struct Keys {
    keys: Arc<RwLock<Vec<Key>>>,
    requests: IntCounterVec,
}

struct Key {
    client: Arc<str>,
    hash: [u8; SHA256_OUTPUT_LEN],
}

impl Keys {
    /// Reads the file now, and again every second until the process is told to stop. A bad file is an error at the
    /// first read. Later, a bad file is logged and the keys stay as they are. `requests` counts requests by client.
    pub(crate) fn follow(
        path: PathBuf,
        requests: IntCounterVec,
        process: &Process,
    ) -> anyhow::Result<Self> {
        let content = read(&path);
        let name = path.display().to_string();
        let keys = parse(&content).with_context(|| format!("API_KEYS_FILE {name}"))?;
        let followed = Self {
            keys: Arc::default(),
            requests,
        };
        followed.replace(keys);
        let (following, stop) = (followed.clone(), process.shutdown.clone());
        process.tasks.spawn(async move {
            stop.run_until_cancelled(following.reread(path, content))
                .await;
        });
        Ok(followed)
    }

    async fn reread(&self, path: PathBuf, mut known: Content) {
        loop {
            sleep(READ_EVERY).await;
            let file = path.clone();
            let Ok(found) = spawn_blocking(move || read(&file)).await else {
                continue;
            };
            // A bad file is logged once, not once per second.
            if found == known {
                continue;
            }
            match parse(&found) {
                Ok(keys) => self.replace(keys),
                Err(error) => tracing::error!(
                    "API_KEYS_FILE {} is not valid, the keys stay unchanged: {error:#}",
                    path.display()
                ),
            }
            known = found;
        }
    }

    fn replace(&self, keys: Vec<Key>) {
        let clients: Vec<&str> = keys.iter().map(|key| &*key.client).collect();
        tracing::info!(clients = clients.join(", "), "API keys are required");
        for client in clients {
            // Creates the counter at 0, so that a key that no client uses is visible in the metrics.
            self.requests.with_label_values(&[client]);
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The client of this key. Also counts the request.
    pub(crate) fn client_of(&self, key: &str) -> Option<Client> {
        let hash = digest(&SHA256, key.as_bytes());
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let found = keys
            .iter()
            .find(|key| key.hash.ct_eq(hash.as_ref()).into())?;
        let client = Client(Some(found.client.clone()));
        self.requests.with_label_values(&[client.name()]).inc();
        Some(client)
    }
}

/// The content of the file, or the reason why it cannot be read.
type Content = Result<String, String>;

fn read(path: &Path) -> Content {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Each line has the client's name, a space, and the SHA-256 of the key in hex. A client may have several lines with
/// different keys: during a key rotation both keys are valid.
fn parse(content: &Content) -> anyhow::Result<Vec<Key>> {
    let content = content.as_ref().map_err(|error| anyhow!("{error}"))?;
    let mut keys: Vec<Key> = Vec::new();
    for (number, line) in (1..).zip(content.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = parse_line(line).with_context(|| format!("line {number}"))?;
        ensure!(
            keys.iter().all(|other| other.hash != key.hash),
            "line {number}: the file already has this key"
        );
        keys.push(key);
    }
    ensure!(!keys.is_empty(), "the file has no key");
    Ok(keys)
}

/// The error texts do not quote the line, because it may contain the key itself.
fn parse_line(line: &str) -> anyhow::Result<Key> {
    let mut words = line.split_whitespace();
    let (Some(client), Some(hash), None) = (words.next(), words.next(), words.next()) else {
        bail!("the line must have a name, a space, and the SHA-256 of a key in hex");
    };
    check_name(client)?;
    ensure!(
        !hash.starts_with(PREFIX),
        "the line has the key itself, which only its client may know; write its SHA-256"
    );
    let mut sha256 = [0; SHA256_OUTPUT_LEN];
    hex::decode_to_slice(hash, &mut sha256)
        .ok()
        .context("the SHA-256 must be 64 hex digits")?;
    Ok(Key {
        client: client.into(),
        hash: sha256,
    })
}

fn check_name(client: &str) -> anyhow::Result<()> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    ensure!(
        (1..=NAME_MAX_BYTES).contains(&client.len()) && client.bytes().all(known),
        "a name must be 1 to {NAME_MAX_BYTES} letters, digits, dots, underscores or hyphens"
    );
    Ok(())
}

/// Makes a key. Prints its line for the file to stdout, so that `>>` can append it. Prints the key itself, which is
/// stored nowhere, to stderr.
pub(crate) fn new_key(client: &str) -> anyhow::Result<()> {
    check_name(client)?;
    let mut secret = [0; 32];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| anyhow!("the operating system gives no random numbers"))?;
    let key = format!("{PREFIX}{}", hex::encode(secret));
    let hash = digest(&SHA256, key.as_bytes());
    println!("{client} {}", hex::encode(hash));
    eprintln!("the key of {client}; it is not shown again:\n{key}");
    Ok(())
}
