use std::process::ExitCode;

use clap::Parser as _;
use flashsale_expirer::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    let common = args.runtime.clone();
    runtime::run("flashsale-expirer", &common, |process| {
        flashsale_expirer::start(args, process)
    })
}
