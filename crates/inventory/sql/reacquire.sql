-- Sells again what an expired hold has lost, if enough units are free. Creates a new CONFIRMED reservation that
-- refers to the old one. The old one stays EXPIRED. A repeated call finds the new one.
--
-- Returns the new reservation. Returns the old one when it is not EXPIRED, or when the outcome is a refusal:
-- 'expired_sold_out', or 'max_per_user_reached' with the number of units that the user may still buy. `expired`
-- counts the holds that this call expired, and `offered` those that users who wait for the product were offered.
create or replace function reacquire_v2(
  id bigint, events text[],
  out outcome text, out remaining integer, out expired bigint, out offered bigint,
  out reservation reservations
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  earlier reservations;
  freed record;
  product products;
  allowed bigint;
begin
  expired := 0; offered := 0;
  -- reacquire: find the reservation
  select * into reservation from reservations r where r.id = reacquire_v2.id;

  -- reacquire: lock the product
  perform from products p where p.id = reservation.product_id for no key update;
  if not found then
    -- There is no such reservation, or its product has moved to another cell.
    reservation := null; return;
  end if;
  t := clock_timestamp();

  -- reacquire: read the reservation again, in a snapshot after the lock
  select * into reservation from reservations r where r.id = reacquire_v2.id and r.product_id = reservation.product_id;
  reservation := as_of_v1(reservation, t);
  if reservation.status is distinct from 'EXPIRED' then
    return;
  end if;

  -- reacquire: find an earlier reacquire
  select * into earlier from reservations_ended r where r.reacquired_from = reacquire_v2.id;
  if found then
    reservation := earlier; return;
  end if;

  -- The hold of this reservation may itself still be unswept.
  select * into freed from free_units_v2(reservation.product_id, reservation.quantity, t, events);
  product := freed.product; expired := freed.expired; offered := freed.offered;
  -- Others wait: free units are theirs. After the end of the sale nobody is offered them, also before its line is closed.
  if product.stock < reservation.quantity or product.waiting > 0 and (product.sale_ends_at > t) is not false then
    outcome := 'expired_sold_out'; return;
  end if;
  allowed := still_allowed_v1(product, reservation.user_id, t);
  if reservation.quantity > allowed then
    outcome := 'max_per_user_reached'; remaining := greatest(allowed, 0)::integer; return;
  end if;

  -- reacquire: take the units
  update products p
  set stock = p.stock - reservation.quantity, sold = p.sold + reservation.quantity
  where p.id = product.id;

  -- reacquire: sell them
  insert into reservations_ended
    (product_id, user_id, quantity, status, reference, reacquired_from, expires_at, created_at, confirmed_at)
  values
    (product.id, reservation.user_id, reservation.quantity, 'CONFIRMED', reservation.reference, reservation.id, t, t, t)
  returning * into reservation;
  perform write_events_v1('ReservationConfirmed', array[reservation.id], t, events);
  outcome := 'reacquired';
end
$$;
