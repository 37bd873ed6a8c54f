//! Properties of the machine, and its resource use.

use std::{fs, process::Command};

use serde::Serialize;

/// The unit of times in `/proc`: Linux always reports 100 ticks per second.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let processor = value_in("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
        let memory_kib: u64 = value_in("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor,
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            memory_gib: (memory_kib + (1 << 19)) >> 20,
            kernel: kernel.trim().to_owned(),
        }
    }

    pub(crate) fn words(&self) -> String {
        let Self {
            processor,
            cores,
            memory_gib,
            kernel,
        } = self;
        format!("{processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}")
    }
}

fn value_in(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The maximum number of open files for a child process. `None`: unlimited.
pub(crate) fn open_files_limit() -> Option<u64> {
    open_files_in(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// The soft limit, which is the effective one.
fn open_files_in(limits: &str) -> Option<u64> {
    let limits = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    limits.split_whitespace().next()?.parse().ok()
}

/// Marks a commit with uncommitted changes.
pub(crate) const DIRTY: &str = "-dirty";

/// The current commit, marked if files differ from it.
pub(crate) fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .output();
    match git {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

/// CPU time of a process and of its ended children, as far as it has collected them.
///
/// `None` if the process is not on this machine: a server may be elsewhere or in a container.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    let own = Stat::of(pid)?;
    let children = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let child = Stat::of(entry.ok()?.file_name().to_str()?.parse().ok()?)?;
        (child.parent == pid).then_some(child.ticks + child.ticks_of_children)
    });
    let ticks = own.ticks + own.ticks_of_children + children.sum::<u64>();
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// The parent of a process, if it has this name.
pub(crate) fn parent_named(pid: u32, name: &str) -> Option<u32> {
    let parent = Stat::of(pid)?.parent;
    named(parent, name)
}

pub(crate) fn named(pid: u32, name: &str) -> Option<u32> {
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    command.starts_with(name).then_some(pid)
}

/// The process with this name and this environment variable, given as `NAME=value`.
pub(crate) fn with_environment(name: &str, variable: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?;
    processes
        .filter_map(|entry| named(entry.ok()?.file_name().to_str()?.parse().ok()?, name))
        .find(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == variable.as_bytes())
        })
}

struct Stat {
    parent: u32,
    ticks: u64,
    ticks_of_children: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(line: &str) -> Option<Self> {
        // The program's name is in parentheses, and may contain spaces and parentheses.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |position: usize| fields.get(position)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: number(11)? + number(12)?,
            ticks_of_children: number(13)? + number(14)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_parentheses() {
        let line = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 99 1 2 3";
        let stat = Stat::parse(line).expect("a process");
        assert_eq!(
            (stat.parent, stat.ticks, stat.ticks_of_children),
            (7, 120, 7)
        );
        assert!(Stat::parse("42 (x) S").is_none());
    }

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max processes             95817                95817                processes \n\
            Max open files            1024                 524288               files     \n";
        assert_eq!(open_files_in(limits), Some(1_024));
        assert_eq!(open_files_in(&limits.replace("1024  ", "unlimited")), None);
    }

    #[test]
    fn this_process_has_used_something_and_no_process_nothing() {
        assert!(cpu_seconds(std::process::id()).is_some());
        assert!(cpu_seconds(u32::MAX).is_none());
    }
}
