// A dialog that explains an action, runs it after a click, and shows the outcome.

import { act, randomKey } from './act.js';
import { byId, make, problemNodes, setText } from './dom.js';
import { clearErrors, validate } from './fields.js';

const UNKNOWN_TEXT = 'The outcome is unknown, because the answer was lost. Try again to find out. The repeat has no second effect.';

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
   * `action` has `request(form, context)`, and `done(answer, context)`, which returns nodes or strings. Optional are
   * `prepare(form, context)`, which runs on opening, and `atOnce` for actions that only read and need no confirmation.
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
    // A running action cannot be closed with Escape, because its outcome must be seen. It has a time limit.
    this.#dialog.addEventListener('cancel', (event) => this.#phase === 'busy' && event.preventDefault());
  }

  open(context) {
    // A browser may close the dialog nevertheless. If the action still runs, the dialog shows it again.
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
    // The first answer to a key is stored, so another attempt after a refusal needs a new key.
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
      // A repeat must send the same request, so the fields cannot be changed.
      this.#fields.disabled = busy || again;
      this.#fields.hidden = finished;
    }
    this.#submit.disabled = busy;
    this.#close.disabled = busy;
    this.#submit.hidden = finished && !this.#action.atOnce;
    setText(this.#submit, busy ? 'Working…' : again ? 'Try again' : this.#labels.submit);
    setText(this.#close, finished ? 'Close' : this.#labels.close);
    // A button loses the focus while it is disabled.
    if (finished) this.#close.focus();
    else if (phase !== 'ask' && !busy) this.#submit.focus();
  }
}
