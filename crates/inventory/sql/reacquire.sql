-- Sells again what an expired hold has lost, if enough units are free. Creates a new CONFIRMED reservation that
-- refers to the old one. The old one stays EXPIRED. A repeated call finds the new one.
--
-- Returns the new reservation. Returns the old one when it is not EXPIRED, or when the outcome is a refusal:
-- 'expired_sold_out', or 'max_per_user_reached' with the number of units that the user may still buy. `expired`
-- counts the holds that this call expired.
create or replace function reacquire_v1(
  id bigint, events text[],
  out outcome text, out remaining integer, out expired bigint, out reservation reservations
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  product products;
  swept bigint;
  again bigint;
  allowed bigint;
begin
  expired := 0;

  -- reacquire: find the reservation
  select * into reservation from reservations r where r.id = reacquire_v1.id;

  -- reacquire: lock the product
  perform from products p where p.id = reservation.product_id for no key update;
  t := clock_timestamp();

  -- reacquire: read the reservation again, in a snapshot after the lock
  select * into reservation from reservations r where r.id = reacquire_v1.id and r.product_id = reservation.product_id;
  reservation := as_of_v1(reservation, t);
  if reservation.status is distinct from 'EXPIRED' then
    return;
  end if;

  -- reacquire: find an earlier reacquire
  select r.id into again from reservations_ended r where r.reacquired_from = reacquire_v1.id;
  if found then
    -- reacquire: read it
    select * into reservation from reservations_ended r where r.id = again;
    return;
  end if;

  loop
    -- reacquire: read the free units
    select * into product from products p where p.id = reservation.product_id;
    exit when product.stock >= reservation.quantity;
    -- The hold of this reservation may itself still be unswept.
    swept := reclaim_v2(product.id, t, 1000, events);
    if swept = 0 then
      outcome := 'expired_sold_out';
      return;
    end if;
    expired := expired + swept;
  end loop;

  if product.max_per_user is not null then
    -- reacquire: count what the user holds and has bought since
    select product.max_per_user - bought_v1(reservation.user_id, product.id) - coalesce(sum(r.quantity), 0)
    into allowed
    from reservations_active r
    where r.user_id = reservation.user_id and r.product_id = product.id and r.expires_at > t
      and r.user_id > 0; -- selects the index
    if reservation.quantity > allowed then
      outcome := 'max_per_user_reached';
      remaining := greatest(allowed, 0)::integer;
      return;
    end if;
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
