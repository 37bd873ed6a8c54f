-- Cancels a batch of holds: the units of what is ACTIVE and not past its deadline are free again.
-- Answers with standing_v1.
create or replace function cancel_v2(ids bigint[], events text[])
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
  -- cancel: lock the products
  select l.product_ids, l.reservation_ids, l.t into product_ids, found, t from lock_products_v1(ids) l;

  -- cancel: end the holds, and give the units back
  with ended as (
    update reservations r
    set status = 'CANCELED', canceled_at = t
    where r.id = any(found) and r.status = 'ACTIVE' and r.expires_at > t
    returning r.id, r.product_id, r.quantity
  ), counted as (
    update products p
    set held = p.held - e.units, stock = p.stock + e.units
    from (select product_id, sum(quantity)::integer as units from ended group by 1) e
    where p.id = e.product_id
  )
  select count(*), array_agg(id) into changed, found from ended;
  perform write_events_v1('ReservationCanceled', found, t, events);

  return query select * from standing_v1(ids, product_ids, t, changed);
end
$$;
