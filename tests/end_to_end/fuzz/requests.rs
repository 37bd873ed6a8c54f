//! Random requests, from almost valid to not HTTP at all.

use std::fmt;

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::bodies;

/// All bytes of one connection.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    target: String,
    headers: Vec<String>,
    body: Vec<u8>,
    framing: Framing,
}

/// How the length of the body is declared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Framing {
    Length,
    Chunked,
    /// Not declared: the bytes after the head count as another, invalid request.
    None,
    /// Fewer bytes than declared, and then the end.
    Short,
    /// More bytes than declared.
    Long,
    /// An invalid length.
    Wrong(&'static str),
    BrokenChunks,
    /// Two framings, as in request smuggling.
    Both,
}

impl Request {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = self.body.len();
        let framing = match self.framing {
            Framing::Length => format!("content-length: {length}\r\n"),
            Framing::Short => format!("content-length: {}\r\n", length + 1),
            Framing::Long => format!("content-length: {}\r\n", length / 2),
            Framing::Wrong(length) => format!("content-length: {length}\r\n"),
            Framing::Chunked | Framing::BrokenChunks => "transfer-encoding: chunked\r\n".to_owned(),
            Framing::Both => {
                format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n")
            }
            Framing::None => String::new(),
        };
        let mut bytes = format!(
            "{} {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n",
            self.method, self.target
        )
        .into_bytes();
        for header in &self.headers {
            bytes.extend(header.as_bytes());
            bytes.extend(b"\r\n");
        }
        bytes.extend(framing.as_bytes());
        bytes.extend(b"\r\n");
        match self.framing {
            Framing::Chunked | Framing::Both => {
                for chunk in self.body.chunks(1000) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            }
            Framing::BrokenChunks => {
                bytes.extend(b"5\r\n");
                bytes.extend(&self.body);
                bytes.extend(b"\r\nzz\r\n");
            }
            _ => bytes.extend(&self.body),
        }
        bytes
    }

    /// Whether the server may wait for more bytes than are sent.
    pub(super) fn breaks_off(&self) -> bool {
        matches!(
            self.framing,
            Framing::Short | Framing::Wrong(_) | Framing::BrokenChunks
        )
    }

    /// Whether it is valid HTTP, so that the service must answer, and completely.
    pub(super) fn is_http(&self) -> bool {
        let is_token = |byte: u8| byte.is_ascii_alphabetic();
        !self.method.is_empty()
            && self.method.bytes().all(is_token)
            && self.target.starts_with('/')
            && self.target.len() < 10_000
            && self.target.bytes().all(|byte| byte.is_ascii_graphic())
            && !self
                .target
                .contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}', '#'])
            && self.headers.iter().all(|header| is_header(header))
            && self.headers.len() < 50
            && self.headers.iter().map(String::len).sum::<usize>() + self.target.len() < HEAD_MAX
            && matches!(self.framing, Framing::Length | Framing::Chunked)
    }
}

/// A head of this size is still accepted: the limit is 16 KiB, and the fixed headers need some of it.
const HEAD_MAX: usize = 15_000;

fn is_header(line: &str) -> bool {
    let Some((name, value)) = line.split_once(':') else {
        return false;
    };
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
        && !["transfer-encoding", "connection"].contains(&name)
        && !value.contains(['\0', '\r'])
        && line.len() < 10_000
}

/// Readable, and complete enough to send it again.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        let shown = &bytes[..bytes.len().min(2_000)];
        write!(
            f,
            "{:?}, {} bytes: {}",
            self.framing,
            bytes.len(),
            shown.escape_ascii()
        )
    }
}

pub(super) fn strange() -> impl Strategy<Value = Request> {
    let request = (
        methods(),
        targets(),
        headers(),
        bodies::strange(),
        framings(),
    );
    prop_oneof![
        // Valid except for the body.
        3 => (select(&["/products", "/reservations", "/reservations/batch", "/reservations/batch/confirm", "/products/1/stock"]), bodies::strange(), framings()).prop_map(
            |(path, body, framing)| Request {
                method: "POST",
                target: path.to_owned(),
                headers: vec!["content-type: application/json".to_owned()],
                body,
                framing,
            }
        ),
        // Valid except for one field.
        4 => bodies::extremes().prop_map(|(method, target, body)| Request {
            method,
            target: target.to_owned(),
            headers: vec!["content-type: application/json".to_owned()],
            body: body.into_bytes(),
            framing: Framing::Length,
        }),
        // Other admin requests.
        1 => (
            select(&["/admin/outbox/requeue", "/admin/reservations/sync-expired", "/reservations/1/return"]),
            bodies::strange(),
        )
            .prop_map(|(target, body)| Request {
                method: "POST",
                target: target.to_owned(),
                headers: vec!["content-type: application/json".to_owned()],
                body,
                framing: Framing::Length,
            }),
        // Valid except for the target.
        2 => (select(&["GET", "POST"]), targets()).prop_map(|(method, target)| Request {
            method,
            target,
            headers: vec![],
            body: vec![],
            framing: Framing::Length,
        }),
        3 => request.prop_map(|(method, target, headers, body, framing)| Request {
            method,
            target,
            headers,
            body,
            framing,
        }),
    ]
}

fn methods() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        6 => Just("POST"),
        4 => Just("GET"),
        3 => select(&["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"]),
        1 => select(&["post", "", "G ET", "GET\0", "\u{1f600}", "POST\r\n", "\u{7f}"]),
    ]
}

/// Texts in place of a number.
const IDS: [&str; 29] = [
    "1",
    "2",
    "3",
    "0",
    "-1",
    "+1",
    "01",
    "1.0",
    "1e3",
    "0x1",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999999999",
    "%31",
    "%00",
    "1%00",
    "%FF",
    "%D9%A1",
    "%F0%9F%92%A9",
    "%2e%2e",
    "..",
    "%2F",
    "%",
    "%zz",
    "",
    "1'%20or%20'1'='1",
    "%27%3Bdrop%20table%20products%3B--",
    "NaN",
];

fn targets() -> impl Strategy<Value = String> {
    let id = || select(&IDS[..]);
    let path = prop_oneof![
        4 => select(&[
            "/products", "/reservations", "/admin/audit", "/admin/outbox/dead",
            "/admin/outbox/requeue", "/admin/outbox/replay", "/admin/reservations/sync-expired", "/livez",
            "/readyz", "/health", "/metrics", "/waitlist",
        ])
        .prop_map(str::to_owned),
        2 => id().prop_map(|id| format!("/products/{id}")),
        2 => id().prop_map(|id| format!("/reservations/{id}")),
        1 => id().prop_map(|id| format!("/waitlist/{id}")),
        1 => id().prop_map(|id| format!("/waitlist/{id}/leave")),
        3 => (id(), select(&["confirm", "cancel", "extend", "return", "expire", "%63onfirm", "confirm/", ""]))
            .prop_map(|(id, verb)| format!("/reservations/{id}/{verb}")),
        2 => select(&[
            "/", "//", "/%", "/%zz", "/%00", "*", "products", "", "/products//", "/products/../products",
            "/./products", "http://other/products", "http://[", "/\u{0}", "/\u{1f600}", "/a b",
            "/products;x=1", "/products#x", "?", "/?", "//products", "/PRODUCTS", "/admin/../products",
        ])
        .prop_map(str::to_owned),
        1 => (1..3000_usize).prop_map(|times| "/a".repeat(times)),
        1 => "\\PC{0,40}".prop_map(|text| format!("/{text}")),
        1 => "/(%[0-9a-fA-F]{2}){1,20}",
    ];
    (path, option::weighted(0.4, queries())).prop_map(|(path, query)| match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    })
}

fn queries() -> impl Strategy<Value = String> {
    let name = select(&[
        "user_id",
        "product_id",
        "sku",
        "status",
        "limit",
        "offset",
        "limit",
        "offset",
        "LIMIT",
        "limit[]",
        "",
        "%00",
        "%6Cimit",
        "x",
    ]);
    let value = prop_oneof![
        4 => select(&IDS[..]),
        2 => select(&["ACTIVE", "CONFIRMED", "CANCELED", "EXPIRED", "WAITING", "active", "ACTIVE%00", "1;2"]),
        2 => select(&["20", "100", "101", "1", "10"]),
    ];
    let pair = (name, value).prop_map(|(name, value)| format!("{name}={value}"));
    prop_oneof![
        6 => vec(pair, 1..5).prop_map(|pairs| pairs.join("&")),
        1 => select(&["", "&", "&&&=&=", "=", "limit", "%", "limit=1&limit=2", "?", "limit=1?"])
            .prop_map(str::to_owned),
        1 => (1..9000_usize).prop_map(|length| "x".repeat(length)),
        1 => "[!-~]{0,60}",
    ]
}

fn headers() -> impl Strategy<Value = Vec<String>> {
    let media_type = prop_oneof![
        8 => Just("application/json"),
        1 => select(&[
            "application/json; charset=utf-16", "application/json;", "application/vnd.x+json",
            "APPLICATION/JSON", "application/+json", "text/plain", "application/xml", "", ";", "*/*",
            "multipart/form-data; boundary=x", "application/json, text/plain", "\u{e9}",
            "application/jsonx",
        ]),
    ];
    let media_type = media_type.prop_map(|value| format!("content-type: {value}"));
    let other = prop_oneof![
        6 => select(&[
            "accept: text/html", "accept: */*;q=x", "accept-encoding: gzip, br", "content-encoding: gzip",
            "authorization: Bearer", "authorization: Bearer x", "authorization: Basic eDp5",
            "authorization: Bearer \u{e9}", "authorization:", "forwarded: for=1.2.3.4",
            "x-forwarded-for: 1.2.3.4", "x-forwarded-proto: https", "expect: 100-continue",
            "upgrade: websocket", "upgrade: h2c", "range: bytes=0-1", "if-none-match: *",
            "idempotency-key: x", "idempotency-key: \"x\"", "idempotency-key: \"x", "idempotency-key:",
            "idempotency-key: \u{1f600}",
            "traceparent: 00-0-0-0", "cookie: a=b; a=b", "origin: null", "te: trailers",
            "access-control-request-method: POST", "content-type: text/plain", "host: other",
            "x-request-id: ../../etc/passwd", "max-forwards: 0",
        ])
        .prop_map(str::to_owned),
        1 => select(&[
            "no colon", ": no name", "bad name: x", "x: a\0b", "x: a\rb", " folded: x", "\u{e9}: x",
            "transfer-encoding: gzip", "connection: upgrade", "x:\ty",
        ])
        .prop_map(str::to_owned),
        1 => (0..20_000_usize).prop_map(|length| format!("x-long: {}", "y".repeat(length))),
    ];
    let few = (option::weighted(0.9, media_type), vec(other, 0..4))
        .prop_map(|(media_type, others)| media_type.into_iter().chain(others).collect());
    let many = (50..300_usize).prop_map(|count| vec!["x: y".to_owned(); count]);
    prop_oneof![20 => few, 1 => many]
}

fn framings() -> impl Strategy<Value = Framing> {
    prop_oneof![
        14 => Just(Framing::Length),
        3 => Just(Framing::Chunked),
        1 => Just(Framing::None),
        1 => Just(Framing::Short),
        1 => Just(Framing::Long),
        1 => select(&["x", "-1", "+1", "1, 2", "0x10", "", "99999999999999999999999999", "16385"])
            .prop_map(Framing::Wrong),
        1 => Just(Framing::BrokenChunks),
        1 => Just(Framing::Both),
    ]
}
