use std::process::ExitCode;

use clap::Parser as _;
use flashsale_api::Args;

/// A request is some thirty small allocations, freed by another thread than made them: glibc's
/// allocator spends an eighth of the process's time on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let common = args.runtime.clone();
    runtime::run("flashsale-api", &common, |process| {
        flashsale_api::run(args, process)
    })
}
