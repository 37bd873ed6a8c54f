-- Writes one event for each of these reservations, with the times of the transition, if events of this type
-- are wanted. The relay moves the reference into a header.
create or replace function write_events_v1(
  event_type text, ids bigint[], t timestamptz, events text[]
)
returns void
language plpgsql
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  if ids is null or write_events_v1.event_type <> all(events) then
    return;
  end if;
  -- write events
  insert into outbox_events (event_type, payload, created_at, next_attempt_at)
  select write_events_v1.event_type, jsonb_strip_nulls(jsonb_build_object(
    'reservation_id', r.id, 'product_id', r.product_id, 'user_id', r.user_id,
    'quantity', r.quantity, 'reference', r.reference,
    'created_at', case write_events_v1.event_type when 'ReservationCreated' then r.created_at end,
    'expires_at', case write_events_v1.event_type when 'ReservationCreated' then r.expires_at end,
    'confirmed_at', case write_events_v1.event_type when 'ReservationConfirmed' then r.confirmed_at end,
    'canceled_at', r.canceled_at, 'expired_at', r.expired_at, 'returned_at', r.returned_at
  )), t, t
  from reservations r
  where r.id = any(ids);
end
$$;
