use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use flashsale_relay::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut common = args.runtime.clone();
    // lapin logs each failure several times, and the whole text of every returned message. The errors that it returns
    // have everything needed. A RUST_LOG that names lapin enables its log again.
    common.log = format!("lapin=off,{}", common.log);
    // No load balancer sends it requests.
    runtime::run("flashsale-relay", &common, Duration::ZERO, |process| {
        flashsale_relay::start(args, process)
    })
}
