-- Writes one event for each of these reservations, as they stand, if events of this type are wanted.
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
    'quantity', r.quantity, 'reference', r.reference, 'reacquired_from', r.reacquired_from,
    'created_at', r.created_at, 'expires_at', r.expires_at, 'confirmed_at', r.confirmed_at,
    'canceled_at', r.canceled_at, 'expired_at', r.expired_at, 'returned_at', r.returned_at
  )), t, t
  from reservations r
  where r.id = any(ids);
end
$$;
