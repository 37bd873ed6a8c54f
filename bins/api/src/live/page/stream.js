// Keeps the stream open: reads it, notices silence, and comes back by itself.

import { authorized, problemOf } from './session.js';
import { EventParser } from './sse.js';

/** A message comes each second; after this time without one, what is shown is old. */
export const SILENCE_MS = 5000;
const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 5000;

/** Answers after which trying again by itself is of no use: somebody has to do something. */
const FINAL = { 401: 'unauthorized', 403: 'forbidden' };

export class Stream {
  /** `connecting`, `live`, `lost`, `crowded`, `unauthorized`, `forbidden` or `stopped`. */
  phase = 'stopped';
  problem = null;
  /** When the last message came; the wall clock also goes on while the machine sleeps. */
  newsAt = null;
  #onEvent;
  #onChange;
  #lastId = null;
  #wait = WAIT_MIN_MS;
  #retry = null;
  #connection = null;

  constructor({ onEvent, onChange }) {
    this.#onEvent = onEvent;
    this.#onChange = onChange;
    setInterval(() => this.#listen(), 1000);
    // Timers sleep in a hidden tab, and everything does in a closed laptop.
    document.addEventListener('visibilitychange', () => document.hidden || this.#wake());
    window.addEventListener('online', () => this.#wake());
  }

  get silent() {
    return this.newsAt !== null && Date.now() - this.newsAt >= SILENCE_MS;
  }

  /** Connects anew, and asks for everything. */
  start() {
    this.stop();
    this.newsAt = null;
    this.#lastId = null;
    this.#wait = WAIT_MIN_MS;
    this.#become('connecting');
    this.#connect();
  }

  stop() {
    clearTimeout(this.#retry);
    this.#connection?.abort();
    this.#connection = null;
    this.#become('stopped');
  }

  async #connect() {
    clearTimeout(this.#retry);
    const connection = new AbortController();
    connection.startedAt = Date.now();
    this.#connection = connection;
    let phase = 'lost';
    let problem = null;
    try {
      const response = await fetch('/admin/live', {
        headers: authorized({
          Accept: 'text/event-stream',
          ...(this.#lastId === null ? {} : { 'Last-Event-ID': this.#lastId }),
        }),
        cache: 'no-store',
        credentials: 'omit',
        signal: connection.signal,
      });
      if (response.ok) {
        await this.#read(response.body.getReader(), connection);
      } else {
        phase = FINAL[response.status] ?? (response.status === 503 ? 'crowded' : 'lost');
        problem = (await problemOf(response)) ?? { title: `The answer was ${response.status}`, status: response.status };
      }
    } catch {
      // No connection, a cut one, or one that was given up: the phase says all that is known.
    }
    // Another connection has taken its place, or nobody wants one.
    if (connection !== this.#connection) return;
    connection.abort();
    this.#connection = null;
    if (!Object.values(FINAL).includes(phase)) this.#retryLater();
    this.#become(phase, problem);
  }

  async #read(reader, connection) {
    const parser = new EventParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || connection !== this.#connection) return;
      for (const event of parser.push(value)) this.#take(event);
    }
  }

  #take({ id, type, data }) {
    let message;
    try {
      message = JSON.parse(data);
    } catch (error) {
      // What follows could not be trusted; the next connection begins with everything.
      this.#lastId = null;
      throw error;
    }
    this.#lastId = id || null;
    this.newsAt = Date.now();
    this.#wait = WAIT_MIN_MS;
    this.#onEvent(type, message);
    if (this.phase !== 'live') this.#become('live');
  }

  /** A connection that says nothing is given up: the other end may be gone without a word. */
  #listen() {
    const connection = this.#connection;
    if (connection === null) return;
    const heardAt = Math.max(this.newsAt ?? 0, connection.startedAt);
    if (Date.now() - heardAt >= SILENCE_MS) connection.abort();
  }

  #wake() {
    this.#listen();
    if (this.#connection === null && ['lost', 'crowded'].includes(this.phase)) this.#connect();
    this.#onChange();
  }

  #retryLater() {
    this.#retry = setTimeout(() => this.#connect(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, WAIT_MAX_MS);
  }

  #become(phase, problem = null) {
    this.phase = phase;
    this.problem = problem;
    this.#onChange();
  }
}
