// Checks the fields of a form, and shows an error beside each invalid field.

import { make } from './dom.js';

/** Whether all fields are valid. If not, the first invalid field gets the focus. */
export function validate(form) {
  const wrong = [...form.elements].filter((field) => field.willValidate && field.type !== 'fieldset' && !check(field));
  wrong[0]?.focus();
  return wrong.length === 0;
}

export function clearErrors(form) {
  for (const field of form.elements) if (field.dataset.message !== undefined) show(field, '');
}

/** `data-message` describes the valid values of a field. It is also the error text. */
function check(field) {
  if (field.dataset.message === undefined) return true;
  // `required` accepts a text of spaces only, but the API does not.
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
    // After an error, the field is checked with every input, so that the error disappears at once.
    field.addEventListener('input', () => field.getAttribute('aria-invalid') === 'true' && check(field));
  }
  place.textContent = message;
  place.hidden = message === '';
  field.setAttribute('aria-invalid', String(message !== ''));
}
