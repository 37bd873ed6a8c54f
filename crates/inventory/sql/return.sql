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
  offered bigint[];
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
    select 'ReservationReturned', event_payload_v1(
      'ReservationReturned', e.id, e.product_id, e.user_id, e.quantity, e.reference,
      e.created_at, e.expires_at, e.confirmed_at, e.canceled_at, e.expired_at, e.returned_at
    ), t, t
    from returned e
    where 'ReservationReturned' = any(events)
  )
  select row(e.*)::reservations, true from returned e;

  get diagnostics rows = row_count;
  if rows < cardinality(ids) then
    return query
    -- return: the unchanged ones
    select as_of_v1(r, t), false from reservations r where r.id = any(known);
  end if;
  if lines <> '{}' then
    offered := offer_each_v1(lines, t, events);
    return query
    -- return: what was offered
    select r, false from reservations r where r.id = any(offered);
  end if;
end
$$;
