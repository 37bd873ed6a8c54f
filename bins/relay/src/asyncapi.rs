//! The AsyncAPI 3.0 document of the events, generated from the published types.

use inventory::{
    ProductId, Quantity, ReservationId, UserId, WaitlistEntryId,
    event::{
        Event, ReservationCanceled, ReservationConfirmed, ReservationCreated, ReservationExpired,
        ReservationReturned, StockAdjusted, WaitlistOffered,
    },
    reservation::REFERENCE_MAX_CHARACTERS,
};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use crate::publish::{APP_ID, CONTENT_TYPE, DELIVERY_MODE, EXCHANGE, QUEUE, routing};

/// The document, as the API serves it at `GET /asyncapi.json`.
#[expect(clippy::too_many_lines, reason = "one document")]
pub fn asyncapi() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let bodies = generator.root_schema_for::<Event>();
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Properties".into(), properties());
    let summaries = schemas.clone();

    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for event in examples() {
        let example = json!(event);
        let name = example["event_type"].as_str().unwrap_or_default();
        let (routing_key, version) = routing(&event);
        let message = format!("#/components/messages/{name}");
        channels.insert(
            name.to_owned(),
            json!({
                "address": routing_key,
                "messages": { name: { "$ref": message } },
                "bindings": { "amqp": {
                    "is": "routingKey",
                    "exchange": { "name": EXCHANGE, "type": "topic", "durable": true, "autoDelete": false },
                    "bindingVersion": "0.3.0",
                } },
            }),
        );
        operations.insert(
            format!("publish{name}"),
            json!({
                "action": "send",
                "channel": { "$ref": format!("#/channels/{name}") },
                "messages": [{ "$ref": format!("#/channels/{name}/messages/{name}") }],
                "bindings": { "amqp": {
                    "deliveryMode": DELIVERY_MODE, "mandatory": true, "bindingVersion": "0.3.0",
                } },
            }),
        );
        // Generators name a type after its schema, so each schema has a name.
        let mut named = |part: &str, schema: Value| {
            let schema_name = format!("{name}{part}");
            let reference = json!({ "$ref": format!("#/components/schemas/{schema_name}") });
            schemas.insert(schema_name, schema);
            reference
        };
        let message = json!({
            "name": name,
            "title": name,
            "summary": summaries[name]["description"],
            "contentType": CONTENT_TYPE,
            "headers": named("Headers", headers(version)),
            "payload": named("Body", body(bodies.as_value(), name)),
            "bindings": { "amqp": { "messageType": name, "bindingVersion": "0.3.0" } },
            "x-amqp-properties": { "$ref": "#/components/schemas/Properties" },
            "examples": [{ "name": "example", "payload": example }],
        });
        messages.insert(name.to_owned(), message);
    }
    for (name, schema) in &mut schemas {
        schema["title"] = name.as_str().into();
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "flashsale events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "`flashsale-relay` publishes events to the durable topic exchange `{EXCHANGE}` of RabbitMQ. The setting \
                `OUTBOX_EVENTS` selects the event types. Bind a queue to the routing keys that you need. `{QUEUE}` is \
                bound to `reservation.confirmed` unless `RELAY_DECLARE_QUEUE` is false.\n\n\
                Delivery is at least once: drop repeats by the property `message_id`, which is the same on each delivery \
                of an event. Events may arrive in any order. The header `version` gives the order of the events of one \
                reservation. New fields may be added: ignore fields that you do not know."
            ),
            "license": { "name": "MIT" },
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    })
}

/// The schema of a body with this type of event.
fn body(bodies: &Value, event_type: &str) -> Value {
    let variants = bodies["oneOf"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let of_type =
        |body: &&Value| body.pointer("/properties/event_type/const") == Some(&event_type.into());
    variants.iter().find(of_type).cloned().unwrap_or_default()
}

fn headers(version: Option<i32>) -> Value {
    let Some(version) = version else {
        return json!({ "type": "object", "properties": {} });
    };
    json!({
        "type": "object",
        "properties": {
            "version": {
                "type": "integer", "const": version,
                "description": "Order of the events of one reservation. They may arrive in any order.",
            },
            "reference": {
                "type": "string", "minLength": 1, "maxLength": REFERENCE_MAX_CHARACTERS,
                "description": "The shop's own reference of the reservation, if it has one.",
            },
            "traceparent": {
                "type": "string",
                "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                "description": "W3C Trace Context of the request that caused the event, if the request was sampled. It is \
                    the same on each delivery.",
            },
        },
        "required": ["version"],
    })
}

/// The standard AMQP message properties.
fn properties() -> Value {
    json!({
        "type": "object",
        "description": "The standard AMQP message properties.",
        "properties": {
            "message_id": {
                "type": "string", "format": "uuid",
                "description": "Id of the event, the same on each delivery. Use it to drop repeats.",
            },
            "type": {
                "type": "string",
                "description": "The type of the event, as in the body. It is the name of the message.",
            },
            "content_type": { "type": "string", "const": CONTENT_TYPE },
            "delivery_mode": { "type": "integer", "const": DELIVERY_MODE, "description": "Persistent." },
            "timestamp": {
                "type": "integer", "minimum": 0,
                "description": "Time when the event was created, in Unix seconds.",
            },
            "app_id": { "type": "string", "const": APP_ID },
        },
        "required": ["message_id", "type", "content_type", "delivery_mode", "timestamp", "app_id"],
    })
}

/// One event of each type.
fn examples() -> [Event; 7] {
    // 2026-02-14T12:00:00Z, the date of the README's examples.
    let created_at = OffsetDateTime::UNIX_EPOCH + Duration::seconds(1_771_070_400);
    let (at, deadline) = (
        created_at + Duration::MINUTE,
        created_at + Duration::minutes(5),
    );
    macro_rules! of_reservation {
        ($name:ident { $($time:ident: $value:expr),+ }) => {
            Event::$name($name {
                reservation_id: ReservationId::ONE,
                product_id: ProductId::ONE,
                user_id: UserId::ONE,
                quantity: Quantity::ONE,
                $($time: $value,)+
                reference: None,
            })
        };
    }
    [
        of_reservation!(ReservationCreated {
            created_at: created_at,
            expires_at: deadline
        }),
        of_reservation!(ReservationConfirmed { confirmed_at: at }),
        of_reservation!(ReservationCanceled { canceled_at: at }),
        of_reservation!(ReservationExpired {
            expired_at: deadline
        }),
        of_reservation!(ReservationReturned { returned_at: at }),
        Event::StockAdjusted(StockAdjusted {
            adjustment_id: 1,
            product_id: ProductId::ONE,
            delta: -5,
            reason: "damaged".to_owned(),
            stock: 5,
            total: 5,
            adjusted_at: at,
        }),
        Event::WaitlistOffered(WaitlistOffered {
            entry_id: WaitlistEntryId::ONE,
            reservation_id: ReservationId::ONE,
            product_id: ProductId::ONE,
            user_id: UserId::ONE,
            quantity: Quantity::ONE,
            offered_at: at,
            expires_at: deadline,
            reference: None,
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_event_has_its_message() {
        let schema = json!(schemars::schema_for!(Event));
        let types = schema["oneOf"].as_array().expect("types").iter();
        let types: Vec<_> = types
            .map(|body| body["properties"]["event_type"]["const"].as_str())
            .collect();
        let document = asyncapi();
        let messages = document["components"]["messages"].as_object();
        let messages = messages.expect("messages").keys();
        let messages: Vec<_> = messages.map(|name| Some(name.as_str())).collect();
        assert_eq!(messages, types);
    }
}
