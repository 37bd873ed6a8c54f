mod serve;
use clap::Parser;
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    runtime: runtime::Args,
    #[command(subcommand)]
    c: C,
}
#[derive(clap::Subcommand)]
enum C {
    Serve(serve::Args),
}
fn main() -> std::process::ExitCode {
    let a = Args::parse();
    let C::Serve(s) = a.c;
    runtime::run("flashsale-bench", &a.runtime, |p| serve::serve(s, p))
}
