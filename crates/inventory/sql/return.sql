-- Takes back a batch of sold reservations. The units of a CONFIRMED reservation become free again, once, or
-- are offered to users who wait for them. Returns the same rows as confirm_v2, and after them the offered holds.
create or replace function return_v1(ids bigint[], events text[])
returns table (reservation reservations, changed boolean)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
-- The joined sets are small and already in memory, but the planner estimates one row and would choose a nested loop.
set enable_nestloop = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  known bigint[];
  product_ids bigint[];
  rows bigint;
  lines bigint[];
begin
  -- return: lock the products
  select l.known, l.product_ids, l.t, l.lines into known, product_ids, t, lines from lock_products_v2(ids) l;
  -- return: without those whose product has moved to another cell
  known := array(
    select r.id from reservations r
    where r.id = any(known) and r.product_id in (select p.id from products p where p.id = any(product_ids))
  );

  return query
  -- return: take the sales back, and free the units
  with returned as (
    update reservations_ended r
    set status = 'RETURNED', returned_at = t
    where r.id = any(known) and r.status = 'CONFIRMED'
    returning r.*
  ), counted as (
    update products p
    set sold = p.sold - e.units, stock = p.stock + e.units
    from (select product_id, sum(quantity)::integer as units from returned group by 1) e
    where p.id = any(product_ids) and p.id = e.product_id
  ), told as (
    insert into outbox_events (event_type, payload, created_at, next_attempt_at)
    select 'ReservationReturned', event_payload_v2('ReservationReturned', row(e.*)::reservations), t, t
    from returned e
    where 'ReservationReturned' = any(events)
  )
  select row(e.*)::reservations, true from returned e;

  get diagnostics rows = row_count;
  if rows < cardinality(ids) or lines <> '{}' then
    return query
    -- return: what did not change, and what was offered
    select * from freed_v1(known, rows < cardinality(ids), lines, t, events);
  end if;
end
$$;
