-- Cancels a batch of holds. An ACTIVE hold before its deadline ends, and its units are free again, or offered to
-- users who wait for them. Returns the same rows as confirm_v2, and after them the offered holds.
create or replace function cancel_v2(ids bigint[], events text[])
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
  -- cancel: lock the products
  select l.known, l.product_ids, l.t, l.lines into known, product_ids, t, lines from lock_products_v2(ids) l;

  return query
  -- cancel: end the holds, and free the units
  with gone as (
    delete from reservations_active r
    where r.id = any(known) and r.expires_at > t
    returning r.*
  ), ended as (
    insert into reservations_ended (
      id, product_id, user_id, quantity, status, expires_at, created_at, canceled_at, reference, reacquired_from
    )
    select g.id, g.product_id, g.user_id, g.quantity, 'CANCELED', g.expires_at, g.created_at, t, g.reference,
      g.reacquired_from
    from gone g
    returning *
  ), counted as (
    update products p
    set held = p.held - e.units, stock = p.stock + e.units
    from (select product_id, sum(quantity)::integer as units from ended group by 1) e
    where p.id = any(product_ids) and p.id = e.product_id
  ), told as (
    insert into outbox_events (event_type, payload, created_at, next_attempt_at)
    select 'ReservationCanceled', event_payload_v2('ReservationCanceled', row(e.*)::reservations), t, t
    from ended e
    where 'ReservationCanceled' = any(events)
  )
  select row(e.*)::reservations, true from ended e;

  get diagnostics rows = row_count;
  if rows < cardinality(ids) or lines <> '{}' then
    return query
    -- cancel: what did not change, and what was offered
    select * from freed_v1(known, rows < cardinality(ids), lines, t, events);
  end if;
end
$$;
