-- Stores the traces of the requests that caused events: of the event about each of these reservations that this transaction has
-- written. A call writes all its events at one time, `at`.
--
-- Called only for sampled requests. The functions of the verbs do not know traces, so that a service without traces pays
-- nothing for them.
create or replace function trace_events_v1(ids bigint[], at timestamptz, traceparents text[])
returns void
language plpgsql
-- The statistics may date from a time without events.
set enable_seqscan = off
-- Otherwise each of the call's events would be compared with each of the reservations.
set enable_nestloop = off
set plan_cache_mode = force_generic_plan
as $$
begin
  -- trace events
  update outbox_events o
  set traceparent = q.traceparent
  from unnest(ids, traceparents) as q (id, traceparent)
  where o.published_at is null and o.dead_at is null and o.next_attempt_at = at
    and (o.payload ->> 'reservation_id')::bigint = q.id;
end
$$;
