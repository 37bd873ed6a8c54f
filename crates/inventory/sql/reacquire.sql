-- Sells again what an expired hold has lost, if the units are there: a new, CONFIRMED reservation that names
-- the old one, which stays EXPIRED. A repeat finds the new one. Answers the new one with standing_v1, or the
-- old one where it is not EXPIRED or, with changed = -1, where too few units are free.
create or replace function reacquire_v1(id bigint, events text[])
returns setof standing_v1
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
  again bigint;
begin
  -- reacquire: find the reservation
  select * into lost from reservations r where r.id = reacquire_v1.id;

  -- reacquire: lock the product
  perform from products p where p.id = lost.product_id for no key update;
  t := clock_timestamp();

  -- reacquire: look at it again, in a snapshot that sees the last lock holder's work
  select * into lost from reservations r where r.id = reacquire_v1.id and r.product_id = lost.product_id;
  if lost.status is distinct from 'EXPIRED' and (lost.status = 'ACTIVE' and lost.expires_at <= t) is not true then
    return query select * from standing_v1(array[reacquire_v1.id], array[lost.product_id], t, 0);
    return;
  end if;

  -- reacquire: look for an earlier one
  select r.id into again from reservations r where r.reacquired_from = reacquire_v1.id;
  if found then
    return query select * from standing_v1(array[again], array[lost.product_id], t, 0);
    return;
  end if;

  loop
    -- reacquire: look for free units
    select p.stock into free_units from products p where p.id = lost.product_id;
    exit when free_units >= lost.quantity;
    -- The lost hold itself may be among those that nobody swept yet.
    select * into swept from reclaim_v2(lost.product_id, t, 1000, events);
    if swept.rows = 0 then
      return query select * from standing_v1(array[reacquire_v1.id], array[lost.product_id], t, -1);
      return;
    end if;
  end loop;

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

  return query select * from standing_v1(array[again], array[lost.product_id], t, 1);
end
$$;
