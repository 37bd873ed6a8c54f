// The admin token. It is stored only for this tab, and sent only as a header.

const KEY = 'flashsale.admin-token';

export const token = () => sessionStorage.getItem(KEY);
export const rememberToken = (value) => sessionStorage.setItem(KEY, value);
export const forgetToken = () => sessionStorage.removeItem(KEY);

/** The headers with the token, if there is one. */
export function authorized(headers) {
  const value = token();
  return value === null ? headers : { ...headers, Authorization: `Bearer ${value}` };
}

/** The problem in the body of a response. `null` if the body is not a problem, for example a page of a proxy. */
export async function problemOf(response) {
  if (!response.headers.get('Content-Type')?.startsWith('application/problem+json')) return null;
  return response.json().catch(() => null);
}

/** The problem for a response whose body is not a problem. */
export const bareProblem = ({ status }) => ({
  title: `The answer was ${status}`, detail: 'The answer is not from flashsale, but from a proxy in between.', code: String(status),
});
