-- Gives the new holds of an order one deadline, this many seconds after reserved_at, also in their events.
create or replace function shorten_holds_v1(ids bigint[], reserved_at timestamptz, seconds integer)
returns void
language plpgsql
as $$
#variable_conflict use_variable
declare
  deadline timestamptz := reserved_at + seconds * interval '1 second';
  change jsonb := jsonb_build_object('expires_at', deadline);
begin
  -- reserve batch: one deadline
  update reservations_active h set expires_at = deadline where h.id = any(ids);
  -- reserve batch: the deadline in the events
  update outbox_events o
  set payload = o.payload || change
  where o.published_at is null and o.dead_at is null and o.next_attempt_at = reserved_at
    and o.event_type = 'ReservationCreated' and (o.payload ->> 'reservation_id')::bigint = any(ids);
end
$$;
