#!/usr/bin/env python3
"""A consumer of events that handles each event once, also after a crash.

Usage: consumer.py DATABASE_FILE [QUEUE]
AMQP_URL is the address of RabbitMQ. It needs the package pika. The database is a file of SQLite; with another
database, the steps are the same.

Delivery is at least once, so an event can come again. The consumer stores the event's message_id in the same
transaction as the effect of the event, and acknowledges after the commit. A repeat finds the id, and has no effect.
"""

import json
import os
import signal
import sqlite3
import sys
import time

import pika

AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")

# Most events that the broker sends before their acknowledgements.
PREFETCH = 100

TABLES = """
create table if not exists handled_events (message_id text primary key, handled_at text not null);
create table if not exists orders (reservation_id integer primary key, reference text, payload text not null);
"""


def handle(database, message_id, event, reference):
    """Returns whether the event was new."""
    # `with` commits at its end, and rolls back after an error.
    with database:
        inserted = database.execute(
            "insert into handled_events values (?, datetime('now')) on conflict do nothing", [message_id]
        )
        if inserted.rowcount == 0:
            return False
        # The effect: here, an order to ship. Whatever it writes is written in the same transaction.
        payload = event["payload"]
        database.execute(
            "insert into orders values (?, ?, ?)", [payload["reservation_id"], reference, json.dumps(payload)]
        )
        return True


def consume(database, queue):
    """Handles events until the connection is lost."""
    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=PREFETCH)

    def on_event(channel, delivery, properties, body):
        event = json.loads(body)
        reference = (properties.headers or {}).get("reference")
        if handle(database, properties.message_id, event, reference):
            print(f"handled {event['payload']['reservation_id']}", flush=True)
        else:
            print(f"repeat {event['payload']['reservation_id']}", flush=True)
        # After the commit: if the consumer crashes before it, the broker delivers the event again.
        channel.basic_ack(delivery.delivery_tag)

    channel.basic_consume(queue, on_event)
    print("ready", flush=True)
    channel.start_consuming()


def main(file, queue="reservation-confirmed"):
    database = sqlite3.connect(file)
    database.executescript(TABLES)
    # SIGTERM ends the process between two events. Without the acknowledgement, an event only comes again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        try:
            consume(database, queue)
        except pika.exceptions.AMQPError as error:
            print(f"connecting again: {error!r}", file=sys.stderr, flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
