// Checks the fields of a form, and says beside each what is wrong with it.

import { make } from './dom.js';

/** Whether all is right; if not, the first field that is not has the focus. */
export function validate(form) {
  const wrong = [...form.elements].filter((field) => field.willValidate && field.type !== 'fieldset' && !check(field));
  wrong[0]?.focus();
  return wrong.length === 0;
}

export function clearErrors(form) {
  for (const field of form.elements) if (field.dataset.message !== undefined) show(field, '');
}

/** `data-message` says what a field takes, and so what is wrong with anything else. */
function check(field) {
  if (field.dataset.message === undefined) return true;
  // Blanks alone are no name, which `required` does not know.
  const blank = field.required && field.value.trim() === '';
  const message = field.validity.valid && !blank ? '' : field.dataset.message;
  show(field, message);
  return message === '';
}

function show(field, message) {
  const id = `${field.id}-error`;
  let place = document.getElementById(id);
  if (place === null) {
    if (message === '') return;
    place = make('p', { id, className: 'error' });
    field.after(place);
    field.setAttribute('aria-describedby', [field.getAttribute('aria-describedby'), id].filter(Boolean).join(' '));
    // Once it was wrong, it is said at once when it is right.
    field.addEventListener('input', () => field.getAttribute('aria-invalid') === 'true' && check(field));
  }
  place.textContent = message;
  place.hidden = message === '';
  field.setAttribute('aria-invalid', String(message !== ''));
}
