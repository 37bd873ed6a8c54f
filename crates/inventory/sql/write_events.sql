-- Writes one event for each of these reservations, with the time of the transition, if events of this type are
-- enabled. The relay moves the reference into a message header.
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
  select write_events_v1.event_type, event_payload_v2(write_events_v1.event_type, row(r.*)::reservations), t, t
  from reservations r
  where r.id = any(ids);
end
$$;
