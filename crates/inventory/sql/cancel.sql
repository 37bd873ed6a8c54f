-- Cancels a batch of holds: the units of what is ACTIVE and not past its deadline are free again.
-- Answers one row a request as the reservation stands afterwards (all null: there is none), the time
-- by which its deadline is to be judged, and on every row the number of holds that this call canceled.
create or replace function cancel_v1(ids bigint[])
returns table (
  n bigint, id bigint, product_id bigint, user_id bigint, quantity integer, status text,
  expires_at timestamptz, created_at timestamptz, confirmed_at timestamptz, canceled_at timestamptz,
  expired_at timestamptz, changed bigint
)
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
  changed_total bigint;
begin
  -- cancel: find the reservations, once: one that a later statement could see has no locked product
  select array_agg(r.product_id order by q.n), array_agg(r.id) filter (where r.id is not null)
  into product_ids, found
  from unnest(ids) with ordinality as q (id, n)
  left join reservations r on r.id = q.id;

  -- cancel: lock the products, in id order
  perform from products p where p.id = any(product_ids) order by p.id for no key update;
  t := clock_timestamp();

  -- cancel: end the holds, and give the units back
  with ended as (
    update reservations r
    set status = 'CANCELED', canceled_at = t
    where r.id = any(found) and r.status = 'ACTIVE' and r.expires_at > t
    returning r.product_id, r.quantity
  ), counted as (
    update products p
    set held = p.held - e.units, stock = p.stock + e.units
    from (select product_id, sum(quantity)::integer as units from ended group by 1) e
    where p.id = e.product_id
  )
  select count(*) into changed_total from ended;

  -- cancel: answer
  return query
  select q.n, r.id, r.product_id, r.user_id, r.quantity,
    case when r.status = 'ACTIVE' and r.expires_at <= t then 'EXPIRED' else r.status end,
    r.expires_at, r.created_at, r.confirmed_at, r.canceled_at,
    case when r.status = 'ACTIVE' and r.expires_at <= t then r.expires_at else r.expired_at end,
    changed_total
  from unnest(ids, product_ids) with ordinality as q (id, product_id, n)
  left join reservations r on r.id = q.id and q.product_id is not null;
end
$$;
