-- Moves the deadlines of a batch of holds to the given seconds from now, where that is later than they are,
-- but not beyond the longest time from their creation: the product's own, or else the given one. Only what
-- is ACTIVE and not past its deadline is moved. Answers with standing_v1.
create or replace function extend_v1(ids bigint[], seconds integer[], max_hold_seconds integer)
returns setof standing_v1
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  product_ids bigint[];
  found bigint[];
  changed bigint;
begin
  -- extend: lock the products
  select l.product_ids, l.reservation_ids, l.t into product_ids, found, t from lock_products_v1(ids) l;

  -- extend: move the deadlines
  with moved as (
    update reservations r
    set expires_at = w.expires_at
    from (
      select h.id, least(
        t + max(q.seconds) * interval '1 second',
        h.created_at + coalesce(p.max_hold_seconds, extend_v1.max_hold_seconds) * interval '1 second'
      ) as expires_at
      from unnest(ids, seconds) as q (id, seconds)
      cross join lateral (
        select r.id, r.product_id, r.created_at from reservations r where r.id = q.id limit 1
      ) h
      join products p on p.id = h.product_id
      where h.id = any(found)
      group by h.id, h.created_at, p.id
    ) w
    where r.id = w.id and r.status = 'ACTIVE' and r.expires_at > t and r.expires_at < w.expires_at
    returning r.id
  )
  select count(*) into changed from moved;

  return query select * from standing_v1(ids, product_ids, t, changed);
end
$$;
