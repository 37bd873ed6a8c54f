-- Moves the deadlines of a batch of holds to the given number of seconds from now. A deadline never moves back, and
-- never beyond the maximum time since creation: the product's own limit if set, otherwise max_hold_seconds.
-- Only ACTIVE holds before their deadline change. Returns the same rows as confirm_v2.
create or replace function extend_v1(ids bigint[], seconds integer[], max_hold_seconds integer)
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
  -- extend: lock the products
  select l.known, l.product_ids, l.t into known, product_ids, t from lock_products_v2(ids) l;

  return query
  -- extend: move the deadlines
  with moved as (
    update reservations_active r
    set expires_at = w.expires_at
    from (
      select h.id, least(
        t + max(q.seconds) * interval '1 second',
        h.created_at + coalesce(p.max_hold_seconds, extend_v1.max_hold_seconds) * interval '1 second'
      ) as expires_at
      from unnest(ids, seconds) as q (id, seconds)
      join (select h.* from reservations_active h where h.id = any(known) offset 0) h on h.id = q.id
      join (select p.* from products p where p.id = any(product_ids) offset 0) p on p.id = h.product_id
      group by h.id, h.created_at, p.max_hold_seconds
    ) w
    where r.id = any(known) and r.id = w.id and r.expires_at > t and r.expires_at < w.expires_at
    returning r.*
  )
  select row(m.*)::reservations, true from moved m;

  get diagnostics rows = row_count;
  if rows < cardinality(ids) then
    return query
    -- extend: the unchanged ones
    select as_of_v1(r, t), false from reservations r where r.id = any(known);
  end if;
end
$$;
