// Reads the stream, detects silence, and reconnects automatically.

import { authorized, problemOf } from './session.js';
import { EventParser, parseData } from './sse.js';

/** A message comes every second. After this time without a message, the shown data is old. */
const SILENCE_MS = 5000;
const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 5000;
/** A hidden tab disconnects after this time, because a browser allows only few connections to one host. */
const HIDDEN_MS = 30_000;

/** Statuses after which the page does not retry, because the user must act first. */
const FINAL = { 401: 'unauthorized', 403: 'forbidden' };

/**
 * The phase after a response that is not a stream. Only the service's own problem means too many viewers; a
 * proxy's 503 does not.
 */
export function phaseOf(status, problem) {
  return problem?.code === 'too_many_viewers' ? 'crowded' : FINAL[status] ?? 'lost';
}

export class Stream {
  /** `connecting`, `live`, `lost`, `crowded`, `paused` (hidden), `unauthorized`, `forbidden` or `stopped`. */
  phase = 'stopped';
  problem = null;
  /** When the last message came, by the wall clock, which continues while the computer sleeps. */
  newsAt = null;
  #onEvent;
  #onChange;
  #lastId = null;
  #wait = WAIT_MIN_MS;
  #retry = null;
  #connection = null;
  /** Since when the page is hidden. `null`: it is visible. */
  #hiddenAt = document.hidden ? Date.now() : null;

  /** `onChange` is called once per chunk, so that all events after a reconnect are drawn together. */
  constructor({ onEvent, onChange }) {
    this.#onEvent = onEvent;
    this.#onChange = onChange;
    setInterval(() => this.#watch(), 1000);
    // Timers stop in a hidden tab and while the computer sleeps.
    document.addEventListener('visibilitychange', () => {
      this.#hiddenAt = document.hidden ? Date.now() : null;
      if (!document.hidden) this.#wake();
    });
    window.addEventListener('online', () => this.#wake());
  }

  get silent() {
    return this.newsAt !== null && Date.now() - this.newsAt >= SILENCE_MS;
  }

  /** Connects again, and requests the complete state. */
  start() {
    this.#leave();
    this.newsAt = null;
    this.#lastId = null;
    this.#wait = WAIT_MIN_MS;
    this.#become('connecting');
    this.#connect();
  }

  stop() {
    this.#leave();
    this.#become('stopped');
  }

  #leave() {
    clearTimeout(this.#retry);
    this.#connection?.abort();
    this.#connection = null;
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
        problem = (await problemOf(response)) ?? { title: `The answer was ${response.status}`, status: response.status };
        phase = phaseOf(response.status, problem);
      }
    } catch {
      // The connection failed, broke or was aborted. The phase has all that is known.
    }
    // Another connection has replaced this one, or the stream was stopped.
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
      const events = parser.push(value);
      for (const event of events) this.#take(event);
      if (events.length > 0) this.#become('live');
    }
  }

  #take({ id, type, data }) {
    let message;
    try {
      message = parseData(data);
    } catch (error) {
      // The following ticks would not fit. The next connection starts with the complete state.
      this.#lastId = null;
      throw error;
    }
    this.#lastId = id || null;
    this.newsAt = Date.now();
    this.#wait = WAIT_MIN_MS;
    this.#onEvent(type, message);
  }

  #watch() {
    this.#listen();
    const hidden = this.#hiddenAt !== null && Date.now() - this.#hiddenAt >= HIDDEN_MS;
    if (!hidden || !['connecting', 'live', 'lost', 'crowded'].includes(this.phase)) return;
    this.#leave();
    this.#become('paused');
  }

  /** Aborts a silent connection: the server may be gone without closing it. */
  #listen() {
    const connection = this.#connection;
    if (connection === null) return;
    const heardAt = Math.max(this.newsAt ?? 0, connection.startedAt);
    if (Date.now() - heardAt >= SILENCE_MS) connection.abort();
  }

  #wake() {
    this.#listen();
    const waits = ['lost', 'crowded'].includes(this.phase) || (this.phase === 'paused' && !document.hidden);
    if (this.#connection === null && waits) this.#connect();
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
