//! A short chaos run, and the checks of `make chaos` on its settings.

use std::{
    path::Path,
    process::{Command, Output},
};

use tokio::task::spawn_blocking;

fn output(mut command: Command) -> (Output, String) {
    let output = command.output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output, said)
}

/// With a random seed. A failure shows the seed, the faults, and the history of each violation.
#[tokio::test]
async fn a_short_run_finds_no_violation() {
    let mut run = Command::new(env!("CARGO_BIN_EXE_flashsale-chaos"));
    run.args(["--minutes", "0.4", "--logs"])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos"))
        .env_remove("MINUTES")
        .env_remove("SEED");
    let (output, said) = spawn_blocking(|| output(run)).await.unwrap();
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.starts_with("seed "), "{said}");
    assert_eq!(printed.lines().last(), Some("violations: 0"), "{said}");
}

/// The script refuses this value with a message, and does nothing.
pub(crate) fn assert_refused(script: &str, name: &str, bad: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local");
    let mut command = Command::new(folder.join(script));
    command.env(name, bad);
    let (output, said) = output(command);
    assert_eq!(output.status.code(), Some(1), "{name}={bad}: {said}");
    let wanted = format!("error: {name} must be ");
    assert!(said.starts_with(&wanted), "{name}={bad}: {said}");
    assert_eq!(said.lines().count(), 1, "{name}={bad}: {said}");
}

#[test]
fn bad_arguments_are_named_before_anything_is_built() {
    for script in ["chaos.sh", "ha.sh"] {
        for bad in ["x", "0", "0.0", "-1", "", "99999"] {
            assert_refused(script, "MINUTES", bad);
        }
        for bad in ["-1", "y", "", "9999999999999999999999"] {
            assert_refused(script, "SEED", bad);
        }
    }
    for bad in ["0", "1.5", "21", ""] {
        assert_refused("ha.sh", "SLOWNESS", bad);
    }
    for bad in ["partition earthquake", "", " ", "partition  switchover"] {
        assert_refused("ha.sh", "ONLY", bad);
    }
}
