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
