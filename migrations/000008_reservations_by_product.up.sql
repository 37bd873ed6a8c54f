-- no-transaction
-- GET /reservations?product_id=, newest first. Without it a product with few reservations was looked for among all.
create index concurrently reservations_by_product on reservations (product_id, id) where created_at > '-infinity';
