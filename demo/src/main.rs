//! `make demo`: a sale on the running system, with shoppers that use its HTTP API.
//!
//! The shoppers keep a journal of their answers. At the end the journal must match the products in the API, and the
//! audit must be clean.

#![allow(
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "the rules for the service's own code: the demo is a client"
)]

mod catalog;
mod journal;
mod report;
mod sale;
mod settings;
mod shop;
mod shopper;
mod state;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use reqwest::Url;
use tokio::signal::ctrl_c;
use tokio_util::sync::CancellationToken;

use settings::Settings;

/// Runs a sale on a running flashsale, prints the results, and checks them.
#[derive(Parser)]
#[command(name = "flashsale-demo", version)]
struct Args {
    /// URL of the API.
    #[arg(long, env = "FLASHSALE_URL", default_value = "http://127.0.0.1:8080", value_parser = base_url)]
    flashsale_url: String,

    /// The bearer token for admin routes, if the API has one.
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,

    /// The shop's API key, if the API requires one. ADMIN_TOKEN also works.
    #[arg(long, env = "API_KEY", hide_env_values = true)]
    api_key: Option<String>,

    /// Number of shoppers.
    #[arg(long, env = "SHOPPERS", default_value_t = 5000,
        value_parser = clap::value_parser!(u32).range(10..=50_000))]
    shoppers: u32,

    /// Duration of the sale, in seconds. All holds are over at its end.
    #[arg(long, env = "SALE_SECONDS", default_value_t = 90,
        value_parser = clap::value_parser!(u32).range(5..=600))]
    sale_seconds: u32,

    /// Seed of the shoppers and their plans. Random by default.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
}

/// The URL is printed, so it must not contain a password.
fn base_url(text: &str) -> Result<String, String> {
    let wrong = || "must be http://HOST:PORT and no more".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain = url.scheme() == "http" && url.path() == "/" && url.query().is_none();
    if plain && url.username().is_empty() && url.password().is_none() {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(wrong())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let set = |value: Option<String>| value.filter(|value| !value.is_empty());
    let admin_token = set(args.admin_token);
    let settings = Settings {
        url: args.flashsale_url,
        api_key: set(args.api_key).or_else(|| admin_token.clone()),
        admin_token,
        shoppers: args.shoppers,
        length: Duration::from_secs(args.sale_seconds.into()),
        // Short enough to type.
        seed: args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
    };
    let stop = CancellationToken::new();
    tokio::spawn(listen_for_ctrl_c(stop.clone()));
    match sale::run(&settings, &stop).await {
        Ok(wrong) if !wrong.is_empty() => {
            for wrong in wrong {
                eprintln!("error: {wrong}");
            }
            ExitCode::from(1)
        }
        Ok(_) if stop.is_cancelled() => ExitCode::from(130),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// After the first Ctrl-C, requests in flight are answered and the results are printed.
async fn listen_for_ctrl_c(stop: CancellationToken) {
    if ctrl_c().await.is_ok() {
        stop.cancel();
        let _ = ctrl_c().await;
        std::process::exit(130);
    }
}
