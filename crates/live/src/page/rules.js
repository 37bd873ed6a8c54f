// The rules of a product's sale, in the form that changes them.

const NUMBERS = ['max_per_user', 'hold_seconds', 'max_hold_seconds'];
const TIMES = ['sale_starts_at', 'sale_ends_at'];

/** A time for a field of the type `datetime-local`, in whole seconds. */
export function localTime(time) {
  const date = new Date(time);
  const two = (value) => String(value).padStart(2, '0');
  const day = [String(date.getFullYear()).padStart(4, '0'), two(date.getMonth() + 1), two(date.getDate())].join('-');
  return `${day}T${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')}`;
}

const shownTime = (value) => (value === undefined ? '' : localTime(Date.parse(value)));

export function fillRules(fields, product) {
  fields.name.value = product.name;
  for (const name of NUMBERS) fields[name].value = product[name] ?? '';
  for (const name of TIMES) fields[name].value = shownTime(product[name]);
}

/**
 * The changed rules, for the API. An empty field removes its rule. A time that was not touched is left out: the field has
 * no fractions of a second, so sending it would change it.
 */
export function changesOf(fields, product) {
  const changes = {};
  const name = fields.name.value.trim();
  if (name !== product.name) changes.name = name;
  for (const rule of NUMBERS) {
    const value = fields[rule].value === '' ? null : Number(fields[rule].value);
    if (value !== (product[rule] ?? null)) changes[rule] = value;
  }
  for (const rule of TIMES) {
    const { value } = fields[rule];
    // A browser may leave out seconds that are 0.
    const full = value.length === 16 ? `${value}:00` : value;
    if (full !== shownTime(product[rule])) changes[rule] = value === '' ? null : new Date(value).toISOString();
  }
  return changes;
}
