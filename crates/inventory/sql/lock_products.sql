-- Locks the products of these reservations, and reads the clock after it. product_ids are theirs, in the order of
-- ids, null where there is no reservation; reservation_ids are those that there are.
create or replace function lock_products_v1(
  ids bigint[], out product_ids bigint[], out reservation_ids bigint[], out t timestamptz
)
language plpgsql
as $$
#variable_conflict use_column
begin
  -- lock products: find the reservations, once: one that a later statement could see has no locked product
  select array_agg(r.product_id order by q.n), array_agg(r.id) filter (where r.id is not null)
  into product_ids, reservation_ids
  from unnest(ids) with ordinality as q (id, n)
  left join lateral (
    -- The limit keeps this one look-up a request, whatever the planner believes.
    select r.id, r.product_id from reservations r where r.id = q.id limit 1
  ) r on true;

  -- lock products: in id order
  perform from products p where p.id = any(product_ids) order by p.id for no key update;
  t := clock_timestamp();
end
$$;
