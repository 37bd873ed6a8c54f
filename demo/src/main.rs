//! `make demo`: a sale against the running system, by shoppers that go through the shop's own HTTP API.
//!
//! The shoppers keep a journal of the answers that they get. At the end it has to agree with what the API says
//! of the products, and the audit has to be clean.

mod catalog;
mod journal;
mod report;
mod sale;
mod shop;
mod shopper;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use reqwest::Url;
use tokio::signal::ctrl_c;
use tokio_util::sync::CancellationToken;

use sale::Settings;

/// Holds a sale against a running flashsale, prints what came of it, and checks it.
#[derive(Parser)]
#[command(name = "flashsale-demo", version)]
struct Args {
    /// Where the API is.
    #[arg(long, env = "FLASHSALE_URL", default_value = "http://127.0.0.1:8080", value_parser = base_url)]
    flashsale_url: String,

    /// The bearer token of admin acts, if the API has one.
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,

    /// The shop's API key, if the API wants one. The ADMIN_TOKEN does as well.
    #[arg(long, env = "API_KEY", hide_env_values = true)]
    api_key: Option<String>,

    /// How many shoppers come.
    #[arg(long, env = "SHOPPERS", default_value_t = 5000,
        value_parser = clap::value_parser!(u32).range(10..=50_000))]
    shoppers: u32,

    /// How long the sale is, in seconds: all holds are over then.
    #[arg(long, env = "SALE_SECONDS", default_value_t = 90,
        value_parser = clap::value_parser!(u32).range(5..=600))]
    sale_seconds: u32,

    /// Who comes when, and what they do; a fresh one by default.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
}

/// It is printed, so it has no password.
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
        // Short enough to be typed.
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

/// The first one lets what is under way be answered, and the result be printed.
async fn listen_for_ctrl_c(stop: CancellationToken) {
    if ctrl_c().await.is_ok() {
        stop.cancel();
        let _ = ctrl_c().await;
        std::process::exit(130);
    }
}
