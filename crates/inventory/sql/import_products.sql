-- Imports products: creates those whose SKU is new, and changes the others where they differ. `rows` is an array of
-- objects with the field `sku`, which differs in each, and any of name, stock, hold_seconds, max_hold_seconds,
-- max_per_user, sale_starts_at and sale_ends_at. An absent field stays unchanged, and null removes a rule.
--
-- `stock` is the number of all units, as when a product is created. Where it differs from the total, the free units
-- change by the difference. So a file that is imported again during a sale adds no unit that was sold.
--
-- Returns an outcome for each row, in order: 'created', 'changed', 'unchanged', or why nothing was done: 'moved' (the
-- product is in another cell, or on its way there), 'incomplete' (a new product has no name or stock), 'window' (the sale
-- would end before it starts), 'insufficient_stock' (with the free units). `changes` names the changed fields. With
-- `dry_run` nothing is done at all. Behind the rows comes one with the outcome 'offered': `free` is the number of holds that
-- users who wait were offered.
create or replace function import_products_v2(rows jsonb, reason text, dry_run boolean, events text[])
returns table (n integer, id bigint, outcome text, changes text[], free integer, to_cell integer)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  t timestamptz;
  skus text[] := array(select r.value ->> 'sku' from jsonb_array_elements(rows) as r (value));
  ids bigint[];
begin
  if not dry_run then
    -- import: lock the products, in id order
    perform from products p where p.sku = any(skus) order by p.id for no key update;
  end if;
  ids := array(select p.id from products p where p.sku = any(skus));
  t := clock_timestamp();

  return query
  -- import: decide, and write
  with decided as materialized (
    select d.* from import_decided_v2(rows, ids) d
  ), created as (
    insert into products (sku, name, stock, total, initial, hold_seconds, max_hold_seconds, max_per_user,
      sale_starts_at, sale_ends_at, created_at)
    select d.sku, d.name, d.total, d.total, d.total, d.hold_seconds, d.max_hold_seconds, d.max_per_user,
      d.sale_starts_at, d.sale_ends_at, t
    from decided d
    where d.outcome = 'created' and not dry_run
    order by d.n
    returning products.id, products.sku
  ), changed as (
    update products p
    set name = d.name, stock = p.stock + d.delta, total = p.total + d.delta, hold_seconds = d.hold_seconds,
      max_hold_seconds = d.max_hold_seconds, max_per_user = d.max_per_user, sale_starts_at = d.sale_starts_at,
      sale_ends_at = d.sale_ends_at
    from decided d
    where p.id = any(ids) and p.id = d.id and d.outcome = 'changed' and not dry_run
    returning p.id, d.delta, p.stock, p.total
  ), recorded as (
    insert into stock_adjustments (product_id, delta, reason, created_at)
    select c.id, c.delta, import_products_v2.reason, t from changed c where c.delta <> 0
    returning *
  ), told as (
    insert into outbox_events (event_type, payload, created_at, next_attempt_at)
    select 'StockAdjusted', adjustment_payload_v1(row(r.*)::stock_adjustments, c.stock, c.total), t, t
    from recorded r
    join changed c on c.id = r.product_id
    where 'StockAdjusted' = any(events)
  )
  select d.n, coalesce(d.id, m.id), d.outcome, d.changes, d.free, d.to_cell
  from decided d
  left join created m on m.sku = d.sku
  order by d.n;

  if not dry_run then
    -- Added units, and units of a sale that has begun, belong to the users who wait.
    return query
    select null::integer, null::bigint, 'offered', null::text[], cardinality(offer_each_v1(
      array(select p.id from products p where p.id = any(ids) and p.waiting > 0 order by p.id), t, events
    )), null::integer;
  end if;
end
$$;
