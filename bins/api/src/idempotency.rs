//! The `Idempotency-Key` header, as draft-ietf-httpapi-idempotency-key-header-07 defines it. A repeated POST with the
//! same key gets the first answer again. `inventory::idempotency` decides what is stored, and when.

use std::marker::PhantomData;

use axum::{
    body::{self, Body},
    extract::{FromRequest, Request},
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use inventory::idempotency::{Answer, Key, KeyOutcome};
use ring::digest;
use serde_json::json;

use crate::{
    Problem,
    code::{KEY_MAX_CHARACTERS, ProblemCode},
    extract,
    json::{JSON, PROBLEM_JSON},
    keys::Client,
    openapi::{Describe, Operation, Schemas},
    problem::ProblemReport,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The body of a POST, and its idempotency key, if the request has one.
pub(crate) struct Keyed<B>(pub(crate) Option<Key>, pub(crate) B);

impl<B, S> FromRequest<S> for Keyed<B>
where
    B: FromRequest<S, Rejection = Problem>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !request.headers().contains_key(IDEMPOTENCY_KEY) {
            return Ok(Self(None, B::from_request(request, state).await?));
        }
        let key = given(request.headers()).ok_or(Problem::IdempotencyKeyInvalid)?;
        let (parts, body) = request.into_parts();
        let bytes = extract::read(body).await?;
        // NUL separates the parts, because neither a method nor a URI can contain it.
        let mut fingerprint = digest::Context::new(&digest::SHA256);
        fingerprint.update(parts.method.as_str().as_bytes());
        fingerprint.update(&[0]);
        let target = parts.uri.path_and_query();
        fingerprint.update(target.map_or("", |target| target.as_str()).as_bytes());
        fingerprint.update(&[0]);
        fingerprint.update(&bytes);
        let fingerprint = fingerprint.finish();
        let client = parts.extensions.get::<Client>();
        let key = Key {
            client: client.map(Client::name).unwrap_or_default().to_owned(),
            key,
            // A SHA-256 has 32 bytes.
            fingerprint: fingerprint
                .as_ref()
                .try_into()
                .map_err(|_| Problem::Internal)?,
        };
        let request = Request::from_parts(parts, Body::from(bytes));
        Ok(Self(Some(key), B::from_request(request, state).await?))
    }
}

impl<B: Describe> Describe for Keyed<B> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.parameter(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "description": "A random text that makes the request safe to repeat. A repeat with the same key gets the \
                first answer again and has no second effect. Quotes are optional.",
            "schema": {
                "type": "string",
                "pattern": format!(r#"^([!#-~][!-~]{{0,{}}}|"([!#-\[\]-~]|\\["\\]){{1,{KEY_MAX_CHARACTERS}}}")$"#, KEY_MAX_CHARACTERS - 1),
            },
        }));
        operation.refuse(&[
            ProblemCode::IdempotencyKeyInvalid,
            ProblemCode::IdempotencyKeyInUse,
            ProblemCode::IdempotencyKeyReused,
        ]);
        let replayed = json!({
            "description": "Present if this is the stored answer to an earlier request with this `Idempotency-Key`.",
            "schema": { "const": "true" },
        });
        operation.header("Idempotency-Replayed", replayed);
        B::describe(operation, schemas);
    }
}

/// The key in the header: a quoted string as RFC 8941 defines it, or the same text without quotes, as most clients
/// send it.
fn given(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let value = values.next()?.to_str().ok()?.trim_ascii();
    if values.next().is_some() {
        return None;
    }
    let key = match value.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None => value.to_owned(),
    };
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    (visible && (1..=KEY_MAX_CHARACTERS).contains(&key.len())).then_some(key)
}

/// The text between the quotes. `quoted` is everything after the first quote.
fn unquoted(quoted: &str) -> Option<String> {
    let mut key = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(key),
            '\\' => key.push(
                characters
                    .next()
                    .filter(|next| matches!(next, '"' | '\\'))?,
            ),
            character => key.push(character),
        }
    }
}

/// A rendered `A`. It may be the stored answer to an earlier request.
pub(crate) struct Rendered<A>(Response, PhantomData<fn() -> A>);

impl<A> Rendered<A> {
    /// A response that was rendered from an `A`, or says why there is none.
    pub(crate) fn of(response: Response) -> Self {
        Self(response, PhantomData)
    }

    pub(crate) fn extensions_mut(&mut self) -> &mut Extensions {
        self.0.extensions_mut()
    }
}

impl<A: IntoResponse> From<A> for Rendered<A> {
    fn from(answer: A) -> Self {
        Self(answer.into_response(), PhantomData)
    }
}

/// Whether the answer says that something does not exist, also if it is a stored answer.
pub(crate) fn is_not_found<A>(answer: &Result<Rendered<A>, Problem>) -> bool {
    let status = match answer {
        Ok(Rendered(response, _)) => response.status(),
        Err(problem) => problem.code().spec().status,
    };
    status == StatusCode::NOT_FOUND
}

impl<A> IntoResponse for Rendered<A> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<A: Describe> Describe for Rendered<A> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        A::describe(operation, schemas);
    }
}

/// Converts an answer to its stored form. Answers and refusals of the verb are stored. Any other problem is returned
/// as an error and not stored, so that a repeat tries again.
pub(crate) async fn to_stored(
    answer: Result<impl IntoResponse, Problem>,
) -> Result<Answer, Problem> {
    let response = match answer {
        Ok(answer) => answer.into_response(),
        Err(refused @ (Problem::Refused(_) | Problem::RefusedOf(..))) => refused.into_response(),
        Err(problem) => return Err(problem),
    };
    let (parts, body) = response.into_parts();
    let body = body::to_bytes(body, usize::MAX).await.ok();
    let body = body.and_then(|bytes| String::from_utf8(bytes.into()).ok());
    let location = parts.headers.get(header::LOCATION);
    Ok(Answer {
        // A status has three digits.
        status: parts.status.as_u16() as i16,
        location: location.and_then(|location| Some(location.to_str().ok()?.to_owned())),
        body: body.ok_or(Problem::Internal)?,
    })
}

/// Converts a stored answer to a response. The answer was rendered from an `A`.
pub(crate) fn from_stored<A>(outcome: KeyOutcome) -> Result<Rendered<A>, Problem> {
    let response = match outcome {
        KeyOutcome::Done(answer) => response(answer),
        KeyOutcome::Replayed(answer) => replayed(response(answer)),
        // Only `verb` knows the request that belongs to it.
        KeyOutcome::ReplayedReserve(_) => return Err(Problem::Internal),
        KeyOutcome::Reused => return Err(Problem::IdempotencyKeyReused),
        KeyOutcome::InUse => return Err(Problem::IdempotencyKeyInUse),
    };
    Ok(Rendered(response, PhantomData))
}

/// The answer to an earlier request, rendered again.
pub(crate) fn render_again<A: IntoResponse>(answer: Result<A, Problem>) -> Rendered<A> {
    Rendered(replayed(answer.into_response()), PhantomData)
}

fn replayed(mut response: Response) -> Response {
    let replayed = HeaderValue::from_static("true");
    response
        .headers_mut()
        .insert(IDEMPOTENCY_REPLAYED, replayed);
    response
}

/// The response that [`to_stored`] stored.
fn response(answer: Answer) -> Response {
    let status = u16::try_from(answer.status).ok();
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = match status.is_success() {
        true => JSON,
        false => PROBLEM_JSON,
    };
    let told = (!status.is_success()).then(|| ProblemReport::in_body(&answer.body));
    let mut response = Response::new(answer.body.into());
    *response.status_mut() = status;
    if let Some(told) = told.flatten() {
        response.extensions_mut().insert(told);
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    let location = answer
        .location
        .and_then(|location| location.try_into().ok());
    if let Some(location) = location {
        headers.insert(header::LOCATION, location);
    }
    response
}
