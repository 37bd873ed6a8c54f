-- How these reservations stand at t, one row a request, for the verbs to answer with: all null where there
-- is none, the status by which their deadline is to be judged, and on every row how many the verb changed.
-- A reservation whose product was not found before the lock is not looked at: it is younger than the call.
create or replace function standing_v1(
  ids bigint[], product_ids bigint[], t timestamptz, changed bigint
)
returns setof standing_v1
language plpgsql
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- standing
  return query
  select q.n, r.id, r.product_id, r.user_id, r.quantity,
    case when r.status = 'ACTIVE' and r.expires_at <= t then 'EXPIRED' else r.status end,
    r.expires_at, r.created_at, r.confirmed_at, r.canceled_at,
    case when r.status = 'ACTIVE' and r.expires_at <= t then r.expires_at else r.expired_at end,
    r.returned_at, r.reference, r.reacquired_from, changed
  from unnest(ids, product_ids) with ordinality as q (id, product_id, n)
  left join lateral (
    -- The limit keeps this one look-up a request, whatever the planner believes.
    select r.* from reservations r where r.id = q.id and q.product_id is not null limit 1
  ) r on true;
end
$$;
