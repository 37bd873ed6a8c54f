use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use flashsale_api::Args;

/// A request makes about 30 small allocations, and another thread often frees them. With glibc's allocator they take
/// an eighth of the process's CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let common = args.runtime.clone();
    let drain = Duration::from_secs(args.drain_seconds.into());
    runtime::run("flashsale-api", &common, drain, |process| {
        flashsale_api::run(args, process)
    })
}
