// A dialog that says what it will do, does it when told, and shows what happened.

import { act, randomKey } from './act.js';
import { byId, make, setText } from './dom.js';
import { clearErrors, validate } from './fields.js';

const UNKNOWN_TEXT = 'It is not known whether it was done: the answer was lost. Try again to find out. A repeat has the same key, and is not done twice.';

export class ActionDialog {
  #dialog;
  #form;
  #fields;
  #result;
  #submit;
  #close;
  #labels;
  #action;
  #context;
  #key;
  #phase;

  /**
   * `action` has `request(form, context)` and `done(answer, context)`, which gives nodes or strings; and, where wanted,
   * `prepare(form, context)` on opening, and `atOnce` for what only reads and needs no question.
   */
  constructor(name, action) {
    this.#dialog = byId(`dialog-${name}`);
    this.#form = this.#dialog.querySelector('form');
    this.#fields = this.#form.querySelector('[data-fields]');
    this.#result = this.#form.querySelector('[data-result]');
    this.#submit = this.#form.querySelector('[data-submit]');
    this.#close = this.#form.querySelector('[data-close]');
    this.#labels = { submit: this.#submit.textContent, close: this.#close.textContent };
    this.#action = action;
    this.#close.addEventListener('click', () => this.#dialog.close());
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (validate(this.#form)) this.#run();
    });
    // The outcome is worth the wait, which is bounded.
    this.#dialog.addEventListener('cancel', (event) => this.#phase === 'busy' && event.preventDefault());
  }

  open(context) {
    // A browser may close it against our will; what is under way is then still to be seen.
    if (this.#phase !== 'busy') {
      this.#context = context;
      this.#form.reset();
      clearErrors(this.#form);
      this.#action.prepare?.(this.#form, context);
      this.#key = randomKey();
      this.#enter('ask');
    }
    this.#dialog.showModal();
    if (this.#action.atOnce && this.#phase === 'ask') this.#run();
  }

  async #run() {
    const request = this.#action.request(this.#form, this.#context);
    this.#enter('busy');
    const { outcome, answer, problem } = await act(request, this.#key);
    if (outcome === 'done') this.#enter('done', this.#action.done(answer, this.#context));
    else if (outcome === 'unknown') this.#enter('unknown', [make('p', { textContent: UNKNOWN_TEXT }), ...problemNodes(problem)]);
    else this.#enter(outcome, problemNodes(problem));
    // A key keeps its first answer: another attempt after a refusal needs another one.
    if (outcome === 'refused' || outcome === 'done') this.#key = randomKey();
  }

  #enter(phase, result = []) {
    this.#phase = phase;
    const busy = phase === 'busy';
    const again = phase === 'again' || phase === 'unknown';
    const finished = phase === 'done';
    this.#dialog.dataset.phase = phase;
    this.#form.setAttribute('aria-busy', String(busy));
    this.#result.dataset.result = phase === 'ask' ? '' : phase;
    this.#result.replaceChildren(...result);
    if (this.#fields !== null) {
      // What a repeat sends must be what was sent.
      this.#fields.disabled = busy || again;
      this.#fields.hidden = finished;
    }
    this.#submit.disabled = busy;
    this.#close.disabled = busy;
    this.#submit.hidden = finished && !this.#action.atOnce;
    setText(this.#submit, busy ? 'Working…' : again ? 'Try again' : this.#labels.submit);
    setText(this.#close, finished ? 'Close' : this.#labels.close);
    // A disabled button has lost the focus.
    if (finished) this.#close.focus();
    else if (phase !== 'ask' && !busy) this.#submit.focus();
  }
}

function problemNodes(problem) {
  if (problem === null) return [];
  return [
    make('p', {}, make('strong', { textContent: problem.title })),
    ...(problem.detail ? [make('p', { textContent: problem.detail })] : []),
    make('p', {}, make('code', { textContent: problem.code })),
  ];
}
