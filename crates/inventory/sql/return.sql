-- Takes back what a batch of reservations sold: the units of what is CONFIRMED are free again, once.
-- Answers with standing_v1.
create or replace function return_v1(ids bigint[], events text[])
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
  -- return: lock the products
  select l.product_ids, l.reservation_ids, l.t into product_ids, found, t from lock_products_v1(ids) l;

  -- return: take the sales back, and free the units
  with returned as (
    update reservations r
    set status = 'RETURNED', returned_at = t
    where r.id = any(found) and r.status = 'CONFIRMED'
    returning r.id, r.product_id, r.quantity
  ), counted as (
    update products p
    set sold = p.sold - e.units, stock = p.stock + e.units
    from (select product_id, sum(quantity)::integer as units from returned group by 1) e
    where p.id = e.product_id
  )
  select count(*), array_agg(id) into changed, found from returned;
  perform write_events_v1('ReservationReturned', found, t, events);

  return query select * from standing_v1(ids, product_ids, t, changed);
end
$$;
