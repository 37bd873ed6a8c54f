//! The API keys of the shops' backends: which there are, and whose a given one is.
//!
//! The configuration has a hash of each key, so that who reads it cannot use it. SHA-256 is enough: a key is
//! 256 random bits, which nobody guesses however fast the hash is. A password's slow hash would only cost
//! time with every request.

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

/// How soon a changed file counts. It is read as a whole each time: a mounted Secret changes by a symbolic
/// link somewhere on its path, which no look at the file's own times or at its folder would always notice.
const READ_EVERY: Duration = Duration::from_secs(1);

/// What every key begins with. It tells a key from its hash, and scanners for lost secrets what they see.
const PREFIX: &str = "fsk_";

const NAME_MAX_BYTES: usize = 64;

/// Who asks: the backend that a key belongs to.
#[derive(Clone, Default)]
pub(crate) struct Client(Option<Arc<str>>);

impl Client {
    /// Its name in the file of keys; empty where no keys are in use, and for the admin.
    pub(crate) fn name(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// The keys that count. Clones share them.
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
    /// Reads the file, and reads it again whenever it changes, until the process is told to stop. What cannot
    /// be read is an error at first, and later changes nothing. `requests` counts by client.
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
            // One line in the log for each change, however long a bad file stays.
            if found == known {
                continue;
            }
            match parse(&found) {
                Ok(keys) => self.replace(keys),
                Err(error) => tracing::error!(
                    "API_KEYS_FILE {} does not count, the keys stay as they were: {error:#}",
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
            // Shown from the start: a key that nobody uses any more is seen by a counter that stands still.
            self.requests.with_label_values(&[client]);
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Whose key this is.
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

/// What a file says, or why it cannot be read.
type Content = Result<String, String>;

fn read(path: &Path) -> Content {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// One key a line: its client's name, a blank, and the SHA-256 of the key in hex. A name may stand there twice,
/// with another key: that is how a key is replaced.
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
            "line {number}: this key stands there already"
        );
        keys.push(key);
    }
    ensure!(!keys.is_empty(), "it has no key");
    Ok(keys)
}

/// An error does not repeat what stands there: it may be the key itself.
fn parse_line(line: &str) -> anyhow::Result<Key> {
    let mut words = line.split_whitespace();
    let (Some(client), Some(hash), None) = (words.next(), words.next(), words.next()) else {
        bail!("it must be a name, a blank, and the SHA-256 of a key in hex");
    };
    check_name(client)?;
    ensure!(
        !hash.starts_with(PREFIX),
        "it has the key itself, which must stay with its client; write its SHA-256"
    );
    let hash = from_hex(hash).context("the SHA-256 must be 64 hex digits")?;
    Ok(Key {
        client: client.into(),
        hash,
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

fn from_hex(text: &str) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() == 2 * bytes.len())?;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::try_from(pair[0] << 4 | pair[1]).ok()?;
    }
    Some(bytes)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a key. Prints its line for the file to stdout, so that `>>` can add it there, and the key itself, which
/// is kept nowhere, to stderr.
pub(crate) fn new_key(client: &str) -> anyhow::Result<()> {
    check_name(client)?;
    let mut secret = [0; 32];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| anyhow!("the system has no random numbers"))?;
    let key = format!("{PREFIX}{}", to_hex(&secret));
    let hash = digest(&SHA256, key.as_bytes());
    println!("{client} {}", to_hex(hash.as_ref()));
    eprintln!("the key of {client}, which is not shown again:\n{key}");
    Ok(())
}
