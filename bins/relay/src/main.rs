use std::process::ExitCode;

use clap::Parser as _;
use flashsale_relay::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut common = args.runtime.clone();
    // lapin logs each failure several times, and every returned message whole. What matters is in the
    // errors that it returns; a filter that names lapin turns it on again.
    common.log = format!("lapin=off,{}", common.log);
    runtime::run("flashsale-relay", &common, |process| {
        flashsale_relay::start(args, process)
    })
}
