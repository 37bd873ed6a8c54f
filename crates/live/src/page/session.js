// The admin token: kept for this tab alone, and sent only as a header.

const KEY = 'flashsale.admin-token';

export const token = () => sessionStorage.getItem(KEY);
export const rememberToken = (value) => sessionStorage.setItem(KEY, value);
export const forgetToken = () => sessionStorage.removeItem(KEY);

/** The given headers, with the token where there is one. */
export function authorized(headers) {
  const value = token();
  return value === null ? headers : { ...headers, Authorization: `Bearer ${value}` };
}

/** The problem that an answer has as its body, or null where it has none (a proxy's page, for example). */
export async function problemOf(response) {
  if (!response.headers.get('Content-Type')?.startsWith('application/problem+json')) return null;
  return response.json().catch(() => null);
}
