// Parses server-sent events from chunks of bytes. A chunk may end anywhere.

const IDS = ['id', 'user_id', 'reservation_id', 'product_id'];

/** Parses JSON. An id that is too large for an exact number stays text, if the browser gives the source text. */
export const parseData = (text) => JSON.parse(text, (key, value, context) => (
  typeof value === 'number' && !Number.isSafeInteger(value) && IDS.includes(key) ? context?.source ?? value : value
));

export class EventParser {
  // The decoder is streaming, because the bytes of one character can be in two chunks.
  #decoder = new TextDecoder();
  #line = '';
  #afterReturn = false;
  #id = '';
  #type = '';
  #data = [];

  /** The events that this chunk completes, as `{ id, type, data }`. */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === '') return [];
    // A line may end with CR LF, and the chunk may end between the two.
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
    // Comments have an empty field name. `retry` is ignored, because the page has its own back-off.
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
