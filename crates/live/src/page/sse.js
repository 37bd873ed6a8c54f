// Reads server-sent events out of chunks of bytes, however these were split.

const IDS = ['user_id', 'reservation_id', 'product_id'];

/** Parses JSON; an id that is too large for a number to hold exactly stays as its text where the browser tells it. */
export const parseData = (text) => JSON.parse(text, (key, value, context) => (
  typeof value === 'number' && !Number.isSafeInteger(value) && IDS.includes(key) ? context?.source ?? value : value
));

export class EventParser {
  // Streaming, so that a character whose bytes come in two chunks stays whole.
  #decoder = new TextDecoder();
  #line = '';
  #afterReturn = false;
  #id = '';
  #type = '';
  #data = [];

  /** The events that are complete with this chunk, as `{ id, type, data }`. */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === '') return [];
    // A line may end in CR LF, and the chunk between the two.
    const rest = this.#afterReturn && text.startsWith('\n');
    this.#afterReturn = text.endsWith('\r');
    if (rest) text = text.slice(1);

    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop();
    return lines.map((line) => this.#take(line)).filter((event) => event !== null);
  }

  #take(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#type = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    // Comments have an empty field; `retry` is not followed, the page has its own back-off.
    return null;
  }

  #dispatch() {
    const event = this.#data.length === 0
      ? null
      : { id: this.#id, type: this.#type || 'message', data: this.#data.join('\n') };
    this.#type = '';
    this.#data = [];
    return event;
  }
}
