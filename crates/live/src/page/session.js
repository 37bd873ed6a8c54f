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

const KEYS_WITHOUT_TOKEN =
  'The API has API_KEYS_FILE, but no ADMIN_TOKEN, so only clients with a key may do this. '
  + 'Set ADMIN_TOKEN for flashsale-api, restart it, and enter the token here.';

/** The problem in the body of a response. `null` if the body is not a problem, for example a page of a proxy. */
export async function problemOf(response) {
  if (!response.headers.get('Content-Type')?.startsWith('application/problem+json')) return null;
  const problem = await response.json().catch(() => null);
  // A page that shows numbers without a token is on the API's own machine, and asks for no token.
  return problem?.code === 'unauthorized' && token() === null ? { ...problem, detail: KEYS_WITHOUT_TOKEN } : problem;
}

/** The problem for a response whose body is not a problem. */
export const bareProblem = ({ status }) => ({
  title: `The answer was ${status}`, detail: 'The answer is not from flashsale, but from a proxy in between.', code: String(status),
});
