// The part of the page's address after the `#`: the whole dashboard, or one product.

/** The address of a product's view. */
export const productAddress = (id) => `#/products/${id}`;

/** The id in the address, as text. `null`: it is the dashboard. */
export const openedProduct = (hash) => /^#\/products\/([1-9]\d{0,18})$/.exec(hash)?.[1] ?? null;
