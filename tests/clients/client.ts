// Uses the types that openapi-typescript has generated, with openapi-fetch, as a shop's backend would.
//
// Usage: node client.js ADDRESS PRODUCT. The product has two units.

import assert from "node:assert/strict";

import createClient from "openapi-fetch";

import type { components, paths } from "./flashsale.js";

type Problem = components["schemas"]["Problem"];

const [address, product] = process.argv.slice(2);
const product_id = Number(product);
const client = createClient<paths>({ baseUrl: address });

function reserve(user_id: number, quantity: number, key: string) {
  const params = { header: { "Idempotency-Key": key } };
  return client.POST("/reservations", { params, body: { product_id, user_id, quantity } });
}

const first = await reserve(42, 2, "first");
assert.equal(first.response.status, 201);
const hold = first.data!;
assert.equal(hold.status, "ACTIVE");
assert.equal((await reserve(42, 2, "first")).data?.id, hold.id);

// The first request of the README: without a quantity.
const refused = await client.POST("/reservations", { body: { product_id, user_id: 43 } });
const problem: Problem = refused.error!;
// The compiler knows the codes.
const wanted: Problem["code"] = "sold_out";
assert.deepEqual([problem.code, problem.stock], [wanted, 0]);

const params = { path: { id: hold.id } };
const sold = await client.POST("/reservations/{id}/confirm", { params });
assert.equal(sold.data?.status, "CONFIRMED");
const again = await client.POST("/reservations/{id}/confirm", { params, body: { reacquire: true } });
assert.equal(again.data?.id, hold.id);
const returned = await client.POST("/reservations/{id}/return", { params });
assert.equal(returned.data?.status, "RETURNED");

for (const user of [44, 45]) assert.ok((await reserve(user, 1, `of-${user}`)).data);
const users: number[] = [];
for (let after_id: number | undefined, more = true; more; ) {
  const page = await client.GET("/reservations", { params: { query: { product_id, limit: 1, after_id } } });
  users.push(...page.data!.map((reservation) => reservation.user_id));
  after_id = page.data!.at(-1)?.id;
  more = page.response.headers.has("link");
}
assert.deepEqual(users, [45, 44, 42]);
const read = await client.GET("/products/{id}", { params: { path: { id: product_id } } });
assert.equal(read.data?.held, 2);
