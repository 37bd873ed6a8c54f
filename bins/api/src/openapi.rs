//! The routes and their OpenAPI 3.1 document. A handler can be routed only if its signature can be described.
//!
//! The types in the handler's signature describe the operation: its parameters, its body, its response, and the
//! refusals of its extractors. Only the operation's name, its texts and the refusals of its verb are written by hand.

mod example;
mod schemas;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use axum::{
    Router,
    extract::State,
    handler::Handler,
    http::{StatusCode, Uri},
    routing::MethodFilter,
};
use serde_json::{Map, Value, json};

use crate::{
    Problem,
    code::{ProblemCode, ProblemSpec},
    problem::Body,
    request_id,
};

pub(crate) use schemas::Schemas;

/// The security scheme of admin requests.
pub(crate) const ADMIN: &str = "admin_token";

/// The security scheme of all other requests that need one.
pub(crate) const CLIENT: &str = "api_key";

/// One operation of the document.
pub(crate) struct Operation {
    fields: Map<String, Value>,
    parameters: Vec<Value>,
    answers: BTreeMap<u16, Value>,
    refusals: Vec<ProblemCode>,
    headers: Map<String, Value>,
    example: Option<Value>,
}

impl Operation {
    /// `id` is the name of the operation in generated clients: a verb and what it acts on, such as `confirmReservation`.
    pub(crate) fn new(id: &str, summary: &str) -> Self {
        let fields = json!({ "operationId": id, "summary": summary });
        Self {
            fields: fields.as_object().cloned().unwrap_or_default(),
            parameters: Vec::new(),
            answers: BTreeMap::new(),
            refusals: Vec::new(),
            headers: Map::new(),
            example: None,
        }
    }

    #[must_use]
    pub(crate) fn explained(mut self, description: &str) -> Self {
        self.fields.insert("description".into(), description.into());
        self
    }

    /// Adds the refusals of the verb. The refusals of the extractors are known from their types.
    #[must_use]
    pub(crate) fn refuses(mut self, codes: &[ProblemCode]) -> Self {
        self.refuse(codes);
        self
    }

    /// The example of the successful answer. Without it, the example is that of the answer's type.
    #[must_use]
    pub(crate) fn example(mut self, example: Value) -> Self {
        self.example = Some(example);
        self
    }

    /// Says that everyone may send the request.
    #[must_use]
    pub(crate) fn open(mut self) -> Self {
        self.fields.insert("security".into(), json!([]));
        self
    }

    /// Adds a response that no type describes.
    #[must_use]
    pub(crate) fn answers(mut self, status: StatusCode, answer: Value) -> Self {
        self.answers.insert(status.as_u16(), answer);
        self
    }

    pub(crate) fn parameter(&mut self, parameter: Value) {
        self.parameters.push(parameter);
    }

    pub(crate) fn body(&mut self, schema: Value, required: bool) {
        // A body without fields has no use for clients, so the document does not mention it.
        if schema.get("type").is_some() && schema.get("properties").is_none() {
            return;
        }
        let schema = json!({ "schema": schema });
        // Other types of JSON are accepted, too. A range of them would be sent literally by generated clients.
        let content = json!({ "application/json": schema });
        let body = json!({ "required": required, "content": content });
        self.fields.insert("requestBody".into(), body);
    }

    /// Requires a bearer token of one of these schemes.
    pub(crate) fn needs(&mut self, schemes: &[&str]) {
        let schemes = schemes.iter().map(|scheme| json!({ *scheme: [] }));
        self.fields.insert("security".into(), schemes.collect());
        self.refuse(&[ProblemCode::Unauthorized]);
    }

    /// Adds a header that every response of the operation may have.
    pub(crate) fn header(&mut self, name: &str, header: Value) {
        self.headers.insert(name.into(), header);
    }

    pub(crate) fn refuse(&mut self, codes: &[ProblemCode]) {
        self.refusals.extend(codes);
    }

    pub(crate) fn answer(
        &mut self,
        status: StatusCode,
        description: &str,
        schema: Value,
        headers: Value,
    ) {
        let mut answer = json!({
            "description": description,
            "content": { "application/json": { "schema": schema } },
        });
        if headers != json!({}) {
            answer["headers"] = headers;
        }
        self.answers.insert(status.as_u16(), answer);
    }

    /// Adds a response whose body is not JSON.
    pub(crate) fn answer_with(&mut self, status: StatusCode, answer: Value) {
        self.answers.insert(status.as_u16(), answer);
    }

    fn into_json(mut self, tag: &str) -> Value {
        let mut fields = Map::new();
        fields.insert("tags".into(), json!([tag]));
        fields.append(&mut self.fields);
        let request_id = json!({ "$ref": "#/components/parameters/RequestId" });
        self.parameters.push(request_id);
        fields.insert("parameters".into(), self.parameters.into());
        if let Some(example) = self.example {
            let answers = self.answers.range_mut(200..300);
            for content in answers.filter_map(|(_, answer)| answer.get_mut("content")) {
                content["application/json"]["example"] = example.clone();
            }
        }
        for answer in self.answers.values_mut() {
            let request_id = json!({ "$ref": "#/components/headers/GivenRequestId" });
            answer["headers"]["X-Request-Id"] = request_id;
        }
        let can_move = [
            ProblemCode::ProductNotFound,
            ProblemCode::ReservationNotFound,
        ];
        if can_move.iter().any(|code| self.refusals.contains(code)) {
            self.refusals.push(ProblemCode::ProductMoved);
        }
        // Sorted in the order of the table of codes, so that the document does not depend on the order of extractors.
        let refusals = ProblemCode::ALL
            .iter()
            .filter(|code| self.refusals.contains(code));
        let mut by_status = BTreeMap::<u16, Vec<ProblemCode>>::new();
        for code in refusals {
            by_status
                .entry(code.spec().status.as_u16())
                .or_default()
                .push(*code);
        }
        for (status, codes) in by_status {
            self.answers.insert(status, refusal(&codes));
        }
        for answer in self.answers.values_mut() {
            for (name, header) in &self.headers {
                answer["headers"][name] = header.clone();
            }
        }
        let answers = self.answers.into_iter();
        let answers: Map<_, _> = answers
            .map(|(status, answer)| (status.to_string(), answer))
            .collect();
        fields.insert("responses".into(), answers.into());
        fields.into()
    }
}

/// The response for these codes, which all have the same status. Its schema is a bare reference: beside other keywords,
/// code generators make an empty class of it. The examples name the codes for programs.
fn refusal(codes: &[ProblemCode]) -> Value {
    let mut description = String::new();
    let mut examples = Map::new();
    for code in codes {
        let ProblemSpec {
            code, when, action, ..
        } = code.spec();
        description += &format!("- `{code}`: {when}. What to do: {action}.\n");
        let example = json!({ "$ref": format!("#/components/examples/{code}") });
        examples.insert((*code).into(), example);
    }
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    let content = json!({ "application/problem+json": { "schema": schema, "examples": examples } });
    let request_id = json!({ "$ref": "#/components/headers/RequestId" });
    let mut answer =
        json!({ "description": description, "headers": { "X-Request-Id": request_id } });
    let header = |description: &str, schema: Value| json!({ "description": description, "required": true, "schema": schema });
    match codes.first().map(|code| code.spec().status) {
        Some(StatusCode::UNAUTHORIZED) => {
            answer["headers"]["WWW-Authenticate"] =
                header("The authentication scheme.", json!({ "const": "Bearer" }));
        }
        Some(StatusCode::SERVICE_UNAVAILABLE) => {
            let seconds = json!({ "type": "integer", "minimum": 1 });
            answer["headers"]["Retry-After"] = header("Seconds to wait before a retry.", seconds);
        }
        _ => {}
    }
    answer["content"] = content;
    answer
}

/// A type in a handler's signature. It describes its part of the operation: input, refusals or response.
pub(crate) trait Describe {
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

/// A handler with state calls the database, which can be overloaded or down.
impl<T> Describe for State<T> {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse(&[
            ProblemCode::Overloaded,
            ProblemCode::OutcomeUnknown,
            ProblemCode::Internal,
        ]);
    }
}

/// The request's address, which a list needs for the link to its next page. It adds nothing to the document.
impl Describe for Uri {
    fn describe(_: &mut Operation, _: &mut Schemas) {}
}

/// A handler. All types of its signature implement [`Describe`].
pub(crate) trait Described<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

macro_rules! described {
    ($($part:ident)+) => {
        impl<F, Fut, M, Good, $($part),+> Described<(M, $($part,)+)> for F
        where
            F: Fn($($part),+) -> Fut,
            Fut: Future<Output = Result<Good, Problem>>,
            Good: Describe,
            $($part: Describe),+
        {
            fn describe(operation: &mut Operation, schemas: &mut Schemas) {
                $($part::describe(operation, schemas);)+
                Good::describe(operation, schemas);
            }
        }
    };
}

described!(A);
described!(A B);
described!(A B C);
described!(A B C D);
described!(A B C D E);
described!(A B C D E G);

/// A router and the document of its routes.
pub(crate) struct Routes<S> {
    router: Router<S>,
    paths: Map<String, Value>,
    schemas: Schemas,
    tags: Vec<Value>,
    tag: &'static str,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(),
            paths: Map::new(),
            schemas: Schemas::new(),
            tags: Vec::new(),
            tag: "",
        }
    }

    /// Starts a tag. All routes that are added after this call belong to it.
    #[must_use]
    pub(crate) fn about(mut self, tag: &'static str, description: &str) -> Self {
        self.tags
            .push(json!({ "name": tag, "description": description }));
        self.tag = tag;
        self
    }

    #[must_use]
    pub(crate) fn get<T, H>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        T: 'static,
        H: Handler<T, S> + Described<T>,
    {
        self.on(MethodFilter::GET, "get", path, handler, operation)
    }

    #[must_use]
    pub(crate) fn post<T, H>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        T: 'static,
        H: Handler<T, S> + Described<T>,
    {
        self.on(MethodFilter::POST, "post", path, handler, operation)
    }

    #[must_use]
    pub(crate) fn put<T, H>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        T: 'static,
        H: Handler<T, S> + Described<T>,
    {
        self.on(MethodFilter::PUT, "put", path, handler, operation)
    }

    #[must_use]
    pub(crate) fn patch<T, H>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        T: 'static,
        H: Handler<T, S> + Described<T>,
    {
        self.on(MethodFilter::PATCH, "patch", path, handler, operation)
    }

    fn on<T, H>(
        mut self,
        filter: MethodFilter,
        method: &str,
        path: &str,
        handler: H,
        mut operation: Operation,
    ) -> Self
    where
        T: 'static,
        H: Handler<T, S> + Described<T>,
    {
        H::describe(&mut operation, &mut self.schemas);
        self.router = self.router.route(path, axum::routing::on(filter, handler));
        self.document(method, path, operation);
        self
    }

    /// Documents a GET route whose handler is in another crate, or whose response is not JSON.
    #[must_use]
    pub(crate) fn documented_get(mut self, path: &str, operation: Operation) -> Self {
        self.document("get", path, operation);
        self
    }

    fn document(&mut self, method: &str, path: &str, operation: Operation) {
        let item = self.paths.entry(path).or_insert_with(|| json!({}));
        item[method] = operation.into_json(self.tag);
    }

    pub(crate) fn finish(mut self, info: Value) -> (Router<S>, Value) {
        // Refusals refer to this schema by its name only, so the generator does not see that it is used.
        self.schemas.response_schema::<Body>();
        let schemas = self.schemas.take();
        let example = |code: &ProblemCode| {
            let example =
                json!({ "summary": code.spec().title, "value": Problem::example(*code).body() });
            (code.spec().code.to_owned(), example)
        };
        let examples: Map<_, _> = ProblemCode::ALL.iter().map(example).collect();
        example::add(&mut self.paths, &schemas);
        let document = json!({
            "openapi": "3.1.0",
            "info": info,
            "servers": [{ "url": "/", "description": "The service that serves this document." }],
            "tags": self.tags,
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "examples": examples,
                "parameters": { "RequestId": request_id::parameter() },
                "headers": request_id::headers(),
                "securitySchemes": {
                    CLIENT: {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "A key from the `API_KEYS_FILE` of the service, or its `ADMIN_TOKEN`. If \
                            `API_KEYS_FILE` is not set, no key is needed.",
                    },
                    ADMIN: {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "The `ADMIN_TOKEN` of the service. If it is not set, admin requests need no \
                            token, but are allowed only from the same machine.",
                    },
                },
            },
        });
        (self.router, document)
    }
}
