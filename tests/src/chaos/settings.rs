//! Settings of a run.

use std::{path::PathBuf, time::Duration};

pub struct Settings {
    pub seed: u64,
    /// Duration of the fault injection.
    pub faults: Duration,
    /// Folder for the logs of the processes.
    pub logs: PathBuf,
    /// Folder of the three machines that `deploy/local/ha.sh` has made. `None`: one machine.
    pub machines: Option<PathBuf>,
    /// The kinds of faults of three machines to draw from. Empty: all.
    pub only: Vec<String>,
    /// Time limits of three machines are this many times as long.
    pub slowness: u32,
}
