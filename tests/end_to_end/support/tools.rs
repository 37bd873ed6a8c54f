//! Programs that are not part of the project: clients' generators, linters, interpreters of examples.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The folder of the project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The tools of one language, as `deploy/local/fetch-tools.sh` installs them.
#[derive(Clone)]
pub(crate) struct Tools(PathBuf);

impl Tools {
    pub(crate) fn python() -> Option<Self> {
        Self::named("TEST_PYTHON_TOOLS", "packages from PyPI")
    }

    pub(crate) fn node() -> Option<Self> {
        Self::named("TEST_NODE_TOOLS", "packages from npm")
    }

    /// `None`: they cannot be had on this machine. The test then ends.
    fn named(variable: &str, what: &str) -> Option<Self> {
        let folder = env::var_os(variable);
        if folder.is_none() {
            skipped_without(what);
        }
        folder.map(|folder| Self(folder.into()))
    }

    /// A program of the tools of Python.
    pub(crate) fn program(&self, name: &str) -> Command {
        let programs = self.0.join("bin");
        let mut command = Command::new(programs.join(name));
        // Generators call a formatter by its name.
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = [programs].into_iter().chain(env::split_paths(&inherited));
        command.env("PATH", env::join_paths(path).unwrap());
        command
    }

    /// A program of the tools of Node.js.
    pub(crate) fn package_program(&self, name: &str) -> Command {
        Command::new(self.packages().join(".bin").join(name))
    }

    pub(crate) fn packages(&self) -> PathBuf {
        self.0.join("node_modules")
    }

    /// Compiles TypeScript, with every check but those of the packages themselves, into JavaScript modules in `folder`, which finds the packages there.
    pub(crate) fn compile(&self, folder: &Path, files: &[PathBuf]) {
        std::os::unix::fs::symlink(self.packages(), folder.join("node_modules")).unwrap();
        std::fs::write(folder.join("package.json"), r#"{"type": "module"}"#).unwrap();
        let options = "--strict --target es2022 --module esnext --moduleResolution bundler --types node --skipLibCheck --noEmitOnError";
        let mut tsc = self.package_program("tsc");
        tsc.args(options.split(' ')).arg("--outDir").arg(folder);
        tsc.arg("--typeRoots").arg(self.packages().join("@types"));
        succeeds(tsc.args(files).current_dir(folder));
    }
}

/// Runs the command to its end. Its output is shown if it fails.
#[track_caller]
pub(crate) fn succeeds(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|error| panic!("{error}: {command:?}"));
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// Says that tests are skipped without this. To standard error itself, because cargo shows nothing else of a test that passes.
pub(crate) fn skipped_without(what: &str) {
    let mut shown = std::io::stderr();
    writeln!(shown, "SKIPPED: a test that needs {what}").unwrap();
}

/// What `make test` installs, and says what is skipped without it.
const OPTIONAL: &str = include_str!("../../../deploy/local/test.sh");

/// Whether this program is on the machine. If not, the test ends.
pub(crate) fn is_installed(program: &str) -> bool {
    // Checked also where the program is there: so no test can vanish elsewhere without a word.
    assert!(
        OPTIONAL.contains(&format!("\n    \"{program}: ")),
        "deploy/local/test.sh does not say what is skipped without {program}"
    );
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        skipped_without(program);
    }
    is_there
}
