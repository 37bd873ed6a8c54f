-- Ends these waiting entries of a product: those in `entries` get a hold each, and those in `refused` are closed.
-- Returns the ids of the holds. The caller must hold the product's lock and must have read t after locking.
create or replace function offer_entries_v1(
  product products, entries waitlist_entries[], refused bigint[], t timestamptz, events text[]
)
returns bigint[]
language plpgsql
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  ended bigint[] := refused || array(select e.id from unnest(entries) e);
  ids bigint[];
  users bigint[];
  units bigint;
begin
  -- offer: write the holds. A waiting user has no hold, unless a person wrote one by hand. Such an entry is closed.
  with held as (
    insert into reservations_active (product_id, user_id, quantity, reference, expires_at, created_at)
    select product.id, e.user_id, e.quantity, e.reference,
      t + coalesce(product.hold_seconds, e.hold_seconds) * interval '1 second', t
    from unnest(entries) e
    order by e.id
    on conflict (user_id, product_id) where user_id > 0 do nothing
    returning id, user_id, quantity
  )
  select coalesce(array_agg(h.id order by h.id), '{}'), coalesce(array_agg(h.user_id::bigint order by h.id), '{}'),
    coalesce(sum(h.quantity), 0)
  into ids, users, units
  from held h;

  -- offer: end the entries
  update waitlist_entries e
  set status = case when q.reservation_id is null then 'CLOSED' else 'OFFERED' end,
    reservation_id = q.reservation_id, ended_at = t
  from (
    select n.id, h.reservation_id
    from unnest(ended) as n (id)
    left join unnest(entries) w on w.id = n.id
    left join unnest(ids, users) as h (reservation_id, user_id) on h.user_id = w.user_id
  ) q
  where e.id = any(ended) and e.id = q.id;

  -- offer: take the units
  update products p
  set stock = p.stock - units, held = p.held + units, waiting = p.waiting - cardinality(ended)
  where p.id = product.id;

  perform write_events_v1('ReservationCreated', ids, t, events);
  if 'WaitlistOffered' = any(events) then
    -- offer: write the events
    insert into outbox_events (event_type, payload, created_at, next_attempt_at)
    select 'WaitlistOffered', jsonb_strip_nulls(jsonb_build_object(
      'entry_id', e.id, 'reservation_id', e.reservation_id, 'product_id', e.product_id, 'user_id', e.user_id,
      'quantity', e.quantity, 'reference', e.reference, 'offered_at', t,
      'expires_at', t + coalesce(product.hold_seconds, e.hold_seconds) * interval '1 second'
    )), t, t
    from waitlist_entries e
    where e.reservation_id = any(ids) and e.reservation_id is not null
    order by e.id;
  end if;
  return ids;
end
$$;
