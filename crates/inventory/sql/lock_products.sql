-- Locks the products of these reservations in id order, then reads the clock. `known` lists the reservations that
-- were found. A later statement may see more reservations. Their products are not locked, so the caller must not
-- touch them. `lines` are those of the products in whose line users wait.
create or replace function lock_products_v2(
  ids bigint[], out known bigint[], out product_ids bigint[], out t timestamptz, out lines bigint[]
)
language plpgsql
as $$
#variable_conflict use_column
begin
  -- lock products: find the holds
  select coalesce(array_agg(r.id), '{}'), coalesce(array_agg(distinct r.product_id), '{}') into known, product_ids
  from reservations_active r
  where r.id = any(ids);
  if cardinality(known) < cardinality(ids) then
    -- lock products: find what has ended. A later snapshot: a hold that ends between the two reads is found by one of
    -- them.
    select known || coalesce(array_agg(r.id), '{}'), product_ids || coalesce(array_agg(distinct r.product_id), '{}')
    into known, product_ids
    from reservations_ended r
    where r.id = any(ids);
  end if;

  -- lock products: in id order
  select coalesce(array_agg(p.id) filter (where p.waiting > 0), '{}') into lines
  from (
    select p.id, p.waiting from products p where p.id = any(product_ids) order by p.id for no key update
  ) p;
  t := clock_timestamp();
end
$$;
