//! The machines: each is a network namespace.

pub(super) const MACHINES: usize = 3;

/// The address of a machine. Machines have numbers from 0 here, and from 1 in names.
pub(super) fn host(machine: usize) -> String {
    format!("10.77.0.{}", machine + 1)
}

/// The command that runs another one on a machine.
pub(super) fn on_machine(machine: usize) -> Vec<String> {
    let name = format!("ha{}", machine + 1);
    ["ip", "netns", "exec", &name].map(str::to_owned).into()
}
