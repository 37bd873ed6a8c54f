//! `AMQP_URL`: one URL, or several that are separated by commas.

use anyhow::{anyhow, bail, ensure};
use lapin::uri::AMQPUri;

/// The parameters of a URL. lapin ignores all others, such as those of RabbitMQ for certificates.
const PARAMETERS: [&str; 5] = [
    "auth_mechanism",
    "channel_max",
    "connection_timeout",
    "frame_max",
    "heartbeat",
];

/// Parses the URLs. An error never contains a URL or a value, because it could be a part of a password.
pub(crate) fn parse(urls: &str) -> anyhow::Result<Vec<AMQPUri>> {
    urls.split(',').map(parse_one).collect()
}

fn parse_one(url: &str) -> anyhow::Result<AMQPUri> {
    ensure!(
        !url.contains('#'),
        "AMQP_URL has a #, which is written as %23"
    );
    let (_, query) = url.split_once('?').unwrap_or((url, ""));
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        if !PARAMETERS.contains(&name) {
            bail!(
                "AMQP_URL has a parameter that is not known. These are: {}",
                PARAMETERS.join(", ")
            );
        }
    }
    url.parse().map_err(|_| {
        anyhow!(
            "AMQP_URL is not an AMQP URL (amqp://user:password@host:port/vhost), or a list of them with commas in \
             between; a comma in a password is written as %2C"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_several() {
        for (urls, hosts) in [
            ("amqp://a", &["a:5672"][..]),
            (
                "amqp://u:p%2C@a:1/%2f,amqps://b/x?heartbeat=3",
                &["a:1", "b:5671"],
            ),
        ] {
            let parsed = parse(urls).expect(urls).into_iter();
            let parsed = parsed.map(|uri| format!("{}:{}", uri.authority.host, uri.authority.port));
            assert_eq!(parsed.collect::<Vec<_>>(), hosts);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_repeated() {
        for (urls, words) in [
            ("amqp//guest:secret@host", "not an AMQP URL"),
            ("amqp://u:a,secret@host", "%2C"),
            ("amqp://a/x,", "not an AMQP URL"),
            ("amqp://a/x?cacertfile=secret", "not known"),
            ("amqp://a/x?heartbeat=secret", "not an AMQP URL"),
            ("amqp://u:a#secret@host", "%23"),
        ] {
            let error = format!("{:#}", parse(urls).expect_err(urls));
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
