use std::process::ExitCode;

use clap::Parser as _;
use flashsale_api::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    let common = args.runtime.clone();
    runtime::run("flashsale-api", &common, |process| {
        flashsale_api::run(args, process)
    })
}
