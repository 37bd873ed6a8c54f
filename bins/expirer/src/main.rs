use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use flashsale_expirer::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    let common = args.runtime.clone();
    // No load balancer sends it requests.
    runtime::run("flashsale-expirer", &common, Duration::ZERO, |process| {
        flashsale_expirer::start(args, process)
    })
}
