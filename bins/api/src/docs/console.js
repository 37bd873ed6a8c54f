// The console: sends the request of a form, and shows its answer.

import { addCopyButtons } from './copy.js';
import { readable, requestOf } from './request.js';

/** A stream has no end, so only its beginning is shown. */
const STREAM_MILLISECONDS = 3_000;
const LONGEST_CHARACTERS = 200_000;

const SECRET = 'flashsale-docs-secret';

export function openConsole() {
  const access = document.getElementById('access');
  const secret = document.getElementById('secret');
  // Kept for this tab only. It is sent to the API alone, which the page's policy ensures.
  secret.value = sessionStorage.getItem(SECRET) ?? '';
  secret.addEventListener('input', () => sessionStorage.setItem(SECRET, secret.value.trim()));
  access.addEventListener('submit', (event) => event.preventDefault());
  access.hidden = false;
  for (const form of document.querySelectorAll('form.console')) {
    form.hidden = false;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      send(form, secret.value.trim());
    });
  }
}

async function send(form, secret) {
  const button = form.querySelector('[type=submit]');
  const shown = form.querySelector('[data-answer]');
  const inputs = [...form.querySelectorAll('[data-in]')];
  const fields = inputs.map(({ name, value, dataset }) => ({ name, place: dataset.in, value: value.trim() }));
  const body = form.querySelector('textarea')?.value.trim() ?? '';
  const { method, path } = form.dataset;
  button.disabled = true;
  shown.replaceChildren(line('p', 'Waiting for the answer …'));
  try {
    const { url, options } = requestOf({ method, path, fields, body, secret }, document.baseURI);
    const began = performance.now();
    const answer = await fetch(url, options);
    const took = Math.round(performance.now() - began);
    const text = await textOf(answer);
    const status = line('p', `${answer.status} ${answer.statusText} after ${took} ms`);
    status.className = `answered s${String(answer.status)[0]}`;
    const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`);
    shown.replaceChildren(status, line('pre', headers.join('\n')));
    if (text !== '') shown.append(line('pre', readable(text)));
    addCopyButtons(shown);
  } catch (error) {
    // The browser says no more, for example whether the connection was refused or lost.
    const failed = line('p', `No answer: ${error.message}. Nobody knows whether the request was done.`);
    failed.className = 'answered s5';
    shown.replaceChildren(failed);
  } finally {
    button.disabled = false;
  }
}

/** The text of an answer, or its beginning if it is long or does not end. */
async function textOf(answer) {
  if (!answer.body) return '';
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const isStream = (answer.headers.get('Content-Type') ?? '').startsWith('text/event-stream');
  const timer = isStream ? setTimeout(() => reader.cancel(), STREAM_MILLISECONDS) : undefined;
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    text += value;
    if (text.length > LONGEST_CHARACTERS) {
      await reader.cancel();
      text = `${text.slice(0, LONGEST_CHARACTERS)}\n… (cut off here)`;
      break;
    }
  }
  clearTimeout(timer);
  return text;
}

function line(tag, text) {
  const node = document.createElement(tag);
  node.textContent = text;
  // A block can be scrolled, so the keyboard must reach it.
  if (tag === 'pre') node.tabIndex = 0;
  return node;
}
