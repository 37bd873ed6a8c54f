// A shop's backend: it holds units for a user, waits for the payment, and confirms.
//
// Usage: node shop.ts PRODUCT USER [QUANTITY]   (Node.js 22.18 or later; with an older one, compile it with tsc first)
// FLASHSALE_URL is the address of the API, FLASHSALE_API_KEY its key, if it wants one. Pressing Enter stands for the
// message of the payment provider.

import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const ADDRESS = process.env.FLASHSALE_URL ?? "http://127.0.0.1:8080";
const API_KEY = process.env.FLASHSALE_API_KEY;

// An answer usually takes milliseconds. Without one after this time, it counts as lost.
const TIMEOUT_MILLISECONDS = 3_000;
// A user waits no longer for a reserve. A payment that is not confirmed by then must be tried again later.
const GIVE_UP_MILLISECONDS = 60_000;

interface Reservation {
  id: number;
  status: string;
  expires_at: string;
}

/** An error as RFC 9457 defines it. Programs branch on `code`. */
interface Problem {
  code: string;
  detail: string;
  reservation_id?: number;
}

/** The service has decided. A retry would get the same answer. */
class Refused extends Error {
  problem: Problem;

  constructor(problem: Problem) {
    super(`${problem.code}: ${problem.detail}`);
    this.problem = problem;
  }
}

/** Nobody knows whether the request was done. */
class NoAnswer extends Error {}

/** Sends a request until it has an answer. The key makes repeats safe: a repeat gets the first answer again. */
async function post(path: string, body: object, key: string): Promise<Reservation> {
  const headers: Record<string, string> = { "Content-Type": "application/json", "Idempotency-Key": key };
  if (API_KEY) headers.Authorization = `Bearer ${API_KEY}`;
  const giveUp = Date.now() + GIVE_UP_MILLISECONDS;
  for (let pause = 100; ; pause = Math.min(pause * 2, 5_000)) {
    let wanted = pause;
    let reason: string;
    try {
      const answer = await fetch(ADDRESS + path, {
        method: "POST",
        headers,
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS),
      });
      if (answer.ok) return (await answer.json()) as Reservation;
      const problem = await problemOf(answer);
      if (!mayBeRepeated(answer.status, problem.code)) throw new Refused(problem);
      reason = problem.code;
      wanted = Math.max(pause, 1_000 * Number(answer.headers.get("Retry-After") ?? 0));
    } catch (error) {
      if (error instanceof Refused) throw error;
      reason = `no answer: ${error}`;
    }
    if (Date.now() + wanted > giveUp) throw new NoAnswer(reason);
    console.error(`trying again: ${reason}`);
    // At random, so that the clients of an overloaded service do not all come back at the same moment.
    await sleep(wanted * (1 + Math.random() / 2));
  }
}

function mayBeRepeated(status: number, code: string): boolean {
  // 503 says that the service is overloaded, or that the outcome is unknown. A proxy answers 502 or 504.
  return [408, 500, 502, 503, 504].includes(status) || code === "idempotency_key_in_use";
}

async function problemOf(answer: Response): Promise<Problem> {
  const text = await answer.text();
  try {
    return JSON.parse(text) as Problem;
  } catch {
    return { code: `http_${answer.status}`, detail: "the answer is not a Problem; a proxy may have made it" };
  }
}

/** Holds units for an order. `order` is stored before the first request, and so is the key that is made of it. */
async function reserve(product: number, user: number, quantity: number, order: string): Promise<number> {
  const body = { product_id: product, user_id: user, quantity, reference: order };
  try {
    return (await post("/reservations", body, `reserve-${order}`)).id;
  } catch (error) {
    // The user has another order that still holds this product: continue with that hold.
    const problem = error instanceof Refused ? error.problem : undefined;
    if (problem?.code === "already_reserved" && problem.reservation_id) return problem.reservation_id;
    throw error;
  }
}

/** Sells the units after the user has paid. If the deadline has passed, the units are taken again if any are free. */
function confirm(reservation: number, order: string): Promise<Reservation> {
  return post(`/reservations/${reservation}/confirm`, { reacquire: true }, `confirm-${order}`);
}

/** Runs one step. A refusal is printed with this word, and ends the order. */
async function orRefused<T>(word: string, step: Promise<T>): Promise<T | undefined> {
  try {
    return await step;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.log(`${word} ${error.problem.code}`);
    return undefined;
  }
}

async function main(product: number, user: number, quantity = 1): Promise<void> {
  const order = randomUUID();
  const input = createInterface({ input: process.stdin });
  try {
    // For example sold_out, sale_not_open or max_per_user_reached: tell the user.
    const reservation = await orRefused("refused", reserve(product, user, quantity, order));
    if (reservation === undefined) return;
    console.log(`held ${reservation}`);
    await input[Symbol.asyncIterator]().next();
    // Refused if the payment came too late and the units are gone. Also if the user has canceled meanwhile.
    const sold = await orRefused("refund", confirm(reservation, order));
    // A late payment sells the units under a new id.
    if (sold) console.log(`sold ${sold.id}`);
  } finally {
    input.close();
  }
}

const [product, user, quantity] = process.argv.slice(2).map(Number);
await main(product, user, quantity);
