-- Ends up to max_rows holds of one product that are due at t, longest due first, and gives their
-- units back. The caller holds the product's lock and has read t after it: without the lock two
-- callers could return the same unit.
create or replace function reclaim_v2(
  product_id bigint, t timestamptz, max_rows integer, events text[],
  out rows integer, out units integer
)
language plpgsql
-- The statistics may still describe the minute before the sale opened, when nothing was held.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  due bigint[];
begin
  -- reclaim: find what is due
  due := array(
    select r.id
    from reservations r
    where r.product_id = reclaim_v2.product_id and r.status = 'ACTIVE' and r.expires_at <= t
      and r.quantity > 0 -- the index's name tag
    order by r.expires_at
    limit max_rows
  );

  -- reclaim: end these holds
  with ended as (
    update reservations r
    set status = 'EXPIRED', expired_at = r.expires_at
    where r.id = any(due) and r.status = 'ACTIVE' and r.expires_at <= t
    returning r.id, r.quantity
  )
  select count(*), coalesce(sum(e.quantity), 0), array_agg(e.id) into rows, units, due from ended e;

  if rows > 0 then
    -- reclaim: give the units back
    update products p
    set stock = p.stock + units, held = p.held - units
    where p.id = reclaim_v2.product_id;
    perform write_events_v1('ReservationExpired', due, t, events);
  end if;
end
$$;
