-- Moves the deadlines of all holds or of none. The ids differ. All move to the same time: the given number of seconds
-- from now, or the earliest maximum of one of them. Otherwise an order could lose a part of its holds.
-- A deadline never moves back: a hold whose deadline is later keeps it. Returns the rows of extend_v1.
create or replace function extend_batch_v1(ids bigint[], seconds integer, max_hold_seconds integer)
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
  live bigint;
  latest timestamptz;
  rows bigint;
begin
  -- extend batch: lock the products
  select l.known, l.product_ids, l.t into known, product_ids, t from lock_products_v2(ids) l;

  -- extend batch: the deadline
  select count(*), least(
    t + extend_batch_v1.seconds * interval '1 second',
    min(h.created_at + coalesce(p.max_hold_seconds, extend_batch_v1.max_hold_seconds) * interval '1 second')
  )
  into live, latest
  from (select h.* from reservations_active h where h.id = any(known) and h.expires_at > t offset 0) h
  join (select p.* from products p where p.id = any(product_ids) offset 0) p on p.id = h.product_id;

  if live = cardinality(ids) then
    return query
    -- extend batch: move the deadlines
    with moved as (
      update reservations_active r
      set expires_at = latest
      where r.id = any(known) and r.expires_at > t and r.expires_at < latest
      returning r.*
    )
    select row(m.*)::reservations, true from moved m;
    get diagnostics rows = row_count;
  end if;

  if coalesce(rows, 0) < cardinality(ids) then
    return query
    -- extend batch: the unchanged ones
    select as_of_v1(r, t), false from reservations r where r.id = any(known);
  end if;
end
$$;
