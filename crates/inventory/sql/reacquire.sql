-- Sells again what an expired hold has lost, if the units are there: a new, CONFIRMED reservation that names
-- the old one, which stays EXPIRED. A repeat finds the new one. Answers the new one's standing, or the old
-- one's where it is not EXPIRED or where the outcome is a refusal: 'expired_sold_out', or
-- 'max_per_user_reached' with how many units the user may have. `expired` counts the holds that were ended on
-- the way.
create or replace function reacquire_v1(
  id bigint, events text[],
  out outcome text, out remaining integer, out expired bigint, out standing standing_v1
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  lost reservations;
  swept record;
  free_units integer;
  allowed bigint;
  again bigint;
begin
  expired := 0;

  -- reacquire: find the reservation
  select * into lost from reservations r where r.id = reacquire_v1.id;

  -- reacquire: lock the product
  perform from products p where p.id = lost.product_id for no key update;
  t := clock_timestamp();

  -- reacquire: look at it again, in a snapshot that sees the last lock holder's work
  select * into lost from reservations r where r.id = reacquire_v1.id and r.product_id = lost.product_id;
  if lost.status is distinct from 'EXPIRED' and (lost.status = 'ACTIVE' and lost.expires_at <= t) is not true then
    standing := standing_v1(array[reacquire_v1.id], array[lost.product_id], t, 0);
    return;
  end if;

  -- reacquire: look for an earlier one
  select r.id into again from reservations r where r.reacquired_from = reacquire_v1.id;
  if found then
    standing := standing_v1(array[again], array[lost.product_id], t, 0);
    return;
  end if;

  loop
    -- reacquire: look for free units
    select p.stock into free_units from products p where p.id = lost.product_id;
    exit when free_units >= lost.quantity;
    -- The lost hold itself may be among those that nobody swept yet.
    select * into swept from reclaim_v2(lost.product_id, t, 1000, events);
    if swept.rows = 0 then
      outcome := 'expired_sold_out';
      standing := standing_v1(array[reacquire_v1.id], array[lost.product_id], t, 0);
      return;
    end if;
    expired := expired + swept.rows;
  end loop;

  -- reacquire: count what the user holds and has bought since
  select p.max_per_user - (
    select coalesce(sum(r.quantity), 0)
    from reservations r
    where r.user_id = lost.user_id and r.product_id = lost.product_id and r.status = 'CONFIRMED'
      and r.quantity > 0 -- the index's name tag
  ) - (
    select coalesce(sum(r.quantity), 0)
    from reservations r
    where r.user_id = lost.user_id and r.product_id = lost.product_id and r.status = 'ACTIVE'
      and r.expires_at > t
      and r.user_id > 0 -- the index's name tag
  )
  into allowed from products p where p.id = lost.product_id;
  if lost.quantity > allowed then
    outcome := 'max_per_user_reached';
    remaining := greatest(allowed, 0);
    standing := standing_v1(array[reacquire_v1.id], array[lost.product_id], t, 0);
    return;
  end if;

  -- reacquire: take the units
  update products p
  set stock = p.stock - lost.quantity, sold = p.sold + lost.quantity
  where p.id = lost.product_id;

  -- reacquire: sell them
  insert into reservations
    (product_id, user_id, quantity, status, reference, reacquired_from, expires_at, created_at, confirmed_at)
  values
    (lost.product_id, lost.user_id, lost.quantity, 'CONFIRMED', lost.reference, lost.id, t, t, t)
  returning reservations.id into again;
  perform write_events_v1('ReservationConfirmed', array[again], t, events);

  outcome := 'reacquired';
  standing := standing_v1(array[again], array[lost.product_id], t, 1);
end
$$;
