//! `DATABASE_URL`: the URL of one PostgreSQL server, or of several of which one can be written to.

use std::str::FromStr as _;

use anyhow::{Context as _, bail, ensure};
use sqlx::postgres::PgConnectOptions;

/// The parameters that sqlx knows. It ignores all others, so a misspelt `sslmode` would mean no TLS.
const PARAMETERS: [&str; 17] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// Where a list of servers stands in a URL.
const LIST: &str = "several servers stand before the name of the database: postgres://user:password@a:5432,b:5433/db";

/// The parts of a URL between which the servers stand.
struct Parts<'a> {
    before: &'a str,
    servers: Vec<&'a str>,
    path: &'a str,
    parameters: Vec<&'a str>,
}

/// Parses the URL, and returns the options of each server in the order of the URL. An error never contains the value of
/// a parameter, or anything that could be a part of a password.
pub(super) fn parse(url: &str) -> anyhow::Result<Vec<PgConnectOptions>> {
    let mut parts = split(url).context(
        "DATABASE_URL is not a PostgreSQL URL (postgres://user:password@host:port/database)",
    )?;
    let is_list = parts.servers.len() > 1;
    for parameter in &parts.parameters {
        check(parameter, is_list)?;
    }
    // The service needs such a session, with one server, too.
    parts
        .parameters
        .retain(|parameter| name(parameter) != "target_session_attrs");
    let query = parts.parameters.join("&");
    let servers = parts.servers.iter().map(|server| {
        ensure!(!is_list || !server.is_empty(), "DATABASE_URL has an empty server: {LIST}");
        let url = format!("{}{server}{}?{query}", parts.before, parts.path);
        // The parser's message could contain the URL and its password.
        PgConnectOptions::from_str(&url).ok().context(
            "DATABASE_URL is not a PostgreSQL URL (postgres://user:password@host:port/database), or a parameter has \
             a value that is not allowed",
        )
    });
    servers.collect()
}

fn split(url: &str) -> Option<Parts<'_>> {
    let scheme = ["postgres://", "postgresql://"]
        .into_iter()
        .find(|scheme| url.starts_with(scheme))?;
    let rest = &url[scheme.len()..];
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(authority);
    let user = authority.rfind('@').map_or(0, |at| at + 1);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    // Such a character of a password, not written as %3F, %2F or %23, would move the rest of it to another part.
    let is_torn = rest.contains('#') || (user == 0 && rest.contains('@'));
    (!is_torn).then(|| Parts {
        before: &url[..scheme.len() + user],
        servers: authority[user..].split(',').collect(),
        path,
        parameters: query.split('&').filter(|one| !one.is_empty()).collect(),
    })
}

fn name(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

fn check(parameter: &str, is_list: bool) -> anyhow::Result<()> {
    let name = name(parameter);
    match name {
        "target_session_attrs" => {
            let wanted = parameter.strip_prefix("target_session_attrs=");
            ensure!(
                matches!(wanted, Some("read-write" | "primary")),
                "DATABASE_URL: target_session_attrs must be read-write or primary, because the service writes"
            );
        }
        "host" | "hostaddr" | "port" if is_list || parameter.contains(',') => {
            bail!("DATABASE_URL: {LIST}");
        }
        "statement-cache-capacity" => {}
        _ if PARAMETERS.contains(&name) || name.starts_with("options[") => {}
        _ => {
            let is_word = name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || b"_-".contains(&byte));
            let named = if is_word {
                format!(" {name:?}")
            } else {
                String::new()
            };
            bail!(
                "DATABASE_URL has a parameter{named} that is not known. These are: {}, target_session_attrs",
                PARAMETERS.join(", ")
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(url: &str) -> Vec<String> {
        let servers = parse(url).expect(url).into_iter();
        servers
            .map(|server| format!("{}:{}", server.get_host(), server.get_port()))
            .collect()
    }

    #[track_caller]
    fn refused(url: &str, words: &str) {
        let error = parse(url).expect_err(url);
        let error = format!("{error:#}");
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn one_server_or_several_each_with_its_port() {
        assert_eq!(servers("postgres://u:p@a/db"), ["a:5432"]);
        assert_eq!(servers("postgresql://u:p,q@a:1/db"), ["a:1"]);
        assert_eq!(
            servers("postgres://u:p@a:1,b:2,[::1]:3/db?target_session_attrs=read-write"),
            ["a:1", "b:2", "[::1]:3"]
        );
        let all =
            parse("postgres://u:p%2C@a:1,b:2/db?sslmode=require&options[jit]=off").expect("a list");
        for server in all {
            assert_eq!(server.get_database(), Some("db"));
            assert_eq!(server.get_username(), "u");
        }
        let socket = parse("postgres:///db?user=u&host=/run/postgresql").expect("a socket");
        assert!(socket[0].get_socket().is_some());
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_name() {
        refused("mysql://u:secret@a/db", "is not a PostgreSQL URL");
        refused("postgres://u:secret@a:1,/db", "an empty server");
        refused("postgres://u:secret@a/db?sslmod=secret", "\"sslmod\"");
        refused(
            "postgres://u:secret@a/db?connect_timeout=3",
            "\"connect_timeout\"",
        );
        refused(
            "postgres://u:secret@a/db?sslmode=secret",
            "a value that is not allowed",
        );
        refused(
            "postgres://u:secret@a/db?target_session_attrs=any",
            "must be read-write",
        );
        refused("postgres://u:secret@a,b/db?port=1,2", "before the name");
        refused("postgres://u:secret@/db?host=a,b", "before the name");
    }

    #[test]
    fn a_password_with_special_characters_is_not_repeated() {
        for character in ['?', '#', '/'] {
            refused(
                &format!("postgres://u:p{character}secret=x@a/db"),
                "is not a PostgreSQL URL",
            );
        }
    }
}
