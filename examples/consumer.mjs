// A consumer of events that handles each event once, also after a crash.
//
// Usage: node consumer.mjs [QUEUE]
// AMQP_URL is the address of RabbitMQ, DATABASE_URL that of the shop's own PostgreSQL. It needs the packages amqplib
// and pg.
//
// Delivery is at least once, so an event can come again. The consumer stores the event's message_id in the same
// transaction as the effect of the event, and acknowledges after the commit. A repeat finds the id, and has no effect.

import { setTimeout as sleep } from "node:timers/promises";

import amqp from "amqplib";
import pg from "pg";

const AMQP_URL = process.env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/%2f";

// Most events that the broker sends before their acknowledgements.
const PREFETCH = 100;

const TABLES = `
  create table if not exists handled_events (message_id uuid primary key, handled_at timestamptz not null default now());
  create table if not exists orders (reservation_id bigint primary key, reference text, payload jsonb not null);
`;

/** Returns whether the event was new. */
async function handle(pool, messageId, event, reference) {
  const client = await pool.connect();
  try {
    await client.query("begin");
    const inserted = await client.query(
      "insert into handled_events (message_id) values ($1) on conflict do nothing",
      [messageId],
    );
    if (inserted.rowCount === 1) {
      // The effect: here, an order to ship. Whatever it writes is written in the same transaction.
      await client.query("insert into orders values ($1, $2, $3)", [
        event.payload.reservation_id,
        reference ?? null,
        event.payload,
      ]);
    }
    await client.query("commit");
    return inserted.rowCount === 1;
  } catch (error) {
    await client.query("rollback").catch(() => {});
    throw error;
  } finally {
    client.release();
  }
}

/** Handles events until the connection is lost. */
async function consume(pool, queue) {
  const connection = await amqp.connect(AMQP_URL);
  const lost = new Promise((_, reject) => {
    connection.on("error", reject);
    connection.on("close", () => reject(new Error("the connection is closed")));
  });
  // It may be lost before the end of this function waits for it.
  lost.catch(() => {});
  try {
    const channel = await connection.createChannel();
    await channel.prefetch(PREFETCH);
    const failed = new Promise((_, reject) => {
      channel.on("error", reject);
      const onMessage = async (message) => {
        if (message === null) throw new Error("the queue is gone");
        const event = JSON.parse(message.content.toString());
        const { messageId, headers } = message.properties;
        const isNew = await handle(pool, messageId, event, headers?.reference);
        console.log(`${isNew ? "handled" : "repeat"} ${event.payload.reservation_id}`);
        // After the commit: if the consumer crashes before it, the broker delivers the event again.
        channel.ack(message);
      };
      channel.consume(queue, (message) => onMessage(message).catch(reject)).then(() => console.log("ready"), reject);
    });
    await Promise.race([lost, failed]);
  } finally {
    await connection.close().catch(() => {});
  }
}

const queue = process.argv[2] ?? "reservation-confirmed";
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
// PostgreSQL may restart. The next query gets a new connection.
pool.on("error", (error) => console.error(`a connection to PostgreSQL is lost: ${error.message}`));
await pool.query(TABLES);
// Without the acknowledgement, an event only comes again.
process.on("SIGTERM", () => process.exit(0));
for (;;) {
  try {
    await consume(pool, queue);
  } catch (error) {
    console.error(`connecting again: ${error.message}`);
    await sleep(1_000);
  }
}
