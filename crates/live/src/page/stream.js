// Keeps the stream open: reads it, notices silence, and comes back by itself.

import { authorized, problemOf } from './session.js';
import { EventParser, parseData } from './sse.js';

/** A message comes each second; after this time without one, what is shown is old. */
const SILENCE_MS = 5000;
const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 5000;
/** A browser has few connections to one host: tabs that nobody looks at must not use them up. */
const HIDDEN_MS = 30_000;

/** Answers after which trying again by itself is of no use: somebody has to do something. */
const FINAL = { 401: 'unauthorized', 403: 'forbidden' };

/** What an answer that is no stream means. Only the service itself counts viewers; a proxy's 503 says nothing of them. */
export function phaseOf(status, problem) {
  return problem?.code === 'too_many_viewers' ? 'crowded' : FINAL[status] ?? 'lost';
}

export class Stream {
  /** `connecting`, `live`, `lost`, `crowded`, `paused` (hidden), `unauthorized`, `forbidden` or `stopped`. */
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
  /** Since when nobody can see the page; null: somebody can. */
  #hiddenAt = document.hidden ? Date.now() : null;

  /** `onChange` is called after all events of a chunk, too, so that those of a catch-up are shown as one. */
  constructor({ onEvent, onChange }) {
    this.#onEvent = onEvent;
    this.#onChange = onChange;
    setInterval(() => this.#watch(), 1000);
    // Timers sleep in a hidden tab, and everything does in a closed laptop.
    document.addEventListener('visibilitychange', () => {
      this.#hiddenAt = document.hidden ? Date.now() : null;
      if (!document.hidden) this.#wake();
    });
    window.addEventListener('online', () => this.#wake());
  }

  get silent() {
    return this.newsAt !== null && Date.now() - this.newsAt >= SILENCE_MS;
  }

  /** Connects anew, and asks for everything. */
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
      // What follows could not be trusted; the next connection begins with everything.
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

  /** A connection that says nothing is given up: the other end may be gone without a word. */
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
