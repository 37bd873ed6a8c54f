-- Confirms a batch of holds. An ACTIVE hold before its deadline is sold, and its event is written. Returns each
-- reservation that exists, as it is at the time of the call, and whether this call changed it. A changed reservation
-- may appear a second time, later and marked as unchanged.
create or replace function confirm_v2(ids bigint[], events text[])
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
begin
  -- confirm: lock the products
  select l.known, l.product_ids, l.t into known, product_ids, t from lock_products_v2(ids) l;

  return query
  -- confirm: sell what is held, and write its event
  with gone as (
    delete from reservations_active r
    where r.id = any(known) and r.expires_at > t
    returning r.*
  ), sold as (
    insert into reservations_ended (
      id, product_id, user_id, quantity, status, expires_at, created_at, confirmed_at, reference, reacquired_from
    )
    select g.id, g.product_id, g.user_id, g.quantity, 'CONFIRMED', g.expires_at, g.created_at, t, g.reference,
      g.reacquired_from
    from gone g
    returning *
  ), counted as (
    update products p
    set held = p.held - s.units, sold = p.sold + s.units
    from (select product_id, sum(quantity)::integer as units from sold group by 1) s
    where p.id = any(product_ids) and p.id = s.product_id
  ), told as (
    -- Not by write_events_v1: it would read the rows again, which is a quarter of the cost of a confirm.
    insert into outbox_events (event_type, payload, created_at, next_attempt_at)
    select 'ReservationConfirmed', event_payload_v2('ReservationConfirmed', row(s.*)::reservations), t, t
    from sold s
    where 'ReservationConfirmed' = any(events)
  )
  select row(s.*)::reservations, true from sold s;

  get diagnostics rows = row_count;
  if rows < cardinality(ids) then
    return query
    -- confirm: the unchanged ones
    select as_of_v1(r, t), false from reservations r where r.id = any(known);
  end if;
end
$$;
