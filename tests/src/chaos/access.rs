//! How clients, consumer, viewers and the final checks reach an installation.

use std::time::Duration;

use sqlx::PgPool;

/// Addresses of an installation.
pub(crate) struct Access {
    /// Addresses of the API, as indexes of operations. The first `client_fronts` are for clients.
    pub(crate) fronts: Vec<String>,
    pub(crate) client_fronts: usize,
    /// Duration of each sale. At the end every product is bought out twice, so a long run has fewer, longer sales.
    pub(crate) sale: Duration,
    /// Address of each API's live page.
    pub(crate) pages: Vec<String>,
    pub(crate) admin_token: Option<String>,
    /// Brokers of the consumer, which are tried in turn.
    pub(crate) amqp: Vec<String>,
    pub(crate) redis: String,
    /// The harness's own connections to PostgreSQL.
    pub(crate) database: PgPool,
}

impl Access {
    pub(crate) fn authorize(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.admin_token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}
