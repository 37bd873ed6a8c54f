//! What spans tell of.

/// A message that is sent to an exchange of RabbitMQ.
pub struct Publishing<'a> {
    /// The name of the exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// The id of the message.
    pub message_id: &'a str,
    /// The trace of the request that caused the message, if it was sampled.
    pub traceparent: Option<&'a str>,
}

/// The answer to a request.
pub struct Answer<'a> {
    /// The method. `None`: not a known method.
    pub method: Option<&'a str>,
    /// The route pattern without ids. `None`: no route was found.
    pub route: Option<&'a str>,
    /// The HTTP status.
    pub status: u16,
    /// The problem code, if the answer is a problem.
    pub code: Option<&'static str>,
    /// The request id, if there is one.
    pub request_id: Option<&'a str>,
}
