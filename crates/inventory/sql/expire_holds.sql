-- Expires those of the given holds that are due at t, and frees their units. Units of a product that users wait for are
-- offered to them. Returns the number of expired holds. product_ids must contain their products. The caller must hold
-- the locks of these products and must have read t after locking. Otherwise two callers could free the same unit twice.
--
-- The rows are deleted and inserted, here and in the other functions. An update of the status would move them to the
-- other partition as well, but would end a session that waits to change one of them by hand with an error (40001).
--
-- stored_at says where the rows of the holds are stored (their ctid), which only changes with these locks. To look each
-- of them up by its id would cost a sixth more.
create or replace function expire_holds_v2(stored_at tid[], product_ids bigint[], t timestamptz, events text[])
returns bigint
language plpgsql
-- The joined sets are small and already in memory, but the planner estimates one row and would choose a nested loop.
set enable_nestloop = off
as $$
#variable_conflict use_column
declare
  expired bigint[];
  lines bigint[];
begin
  -- expire: end the holds, and free the units
  with gone as (
    delete from reservations_active r
    where r.ctid = any(stored_at) and r.expires_at <= t
    returning r.*
  ), ended as (
    insert into reservations_ended (
      id, product_id, user_id, quantity, status, expires_at, created_at, expired_at, reference, reacquired_from
    )
    select g.id, g.product_id, g.user_id, g.quantity, 'EXPIRED', g.expires_at, g.created_at, g.expires_at, g.reference,
      g.reacquired_from
    from gone g
  ), given_back as (
    update products p
    set stock = p.stock + e.units, held = p.held - e.units
    from (select product_id, sum(quantity)::integer as units from gone group by 1) e
    where p.id = any(product_ids) and p.id = e.product_id
    returning p.id, p.waiting
  )
  select coalesce(array_agg(g.id), '{}'), (select array_agg(b.id order by b.id) from given_back b where b.waiting > 0)
  into expired, lines
  from gone g;
  if 'ReservationExpired' = any(events) then
    perform write_events_v1('ReservationExpired', expired, t, events);
  end if;
  if lines is not null then
    perform offer_each_v1(lines, t, events);
  end if;
  return cardinality(expired)::bigint;
end
$$;
