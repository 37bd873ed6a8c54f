-- Reserves all requests or none. Works as reserve_v2, but one refusal rolls back the others, which then have no
-- outcome. All holds get the same deadline, the earliest that one of them would have alone: an order must not lose a
-- part of its holds.
create or replace function reserve_batch_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[],
  hold_seconds integer, events text[],
  out outcomes text[], out ids bigint[], out numbers integer[],
  out reserved_at timestamptz, out expired bigint
)
language plpgsql
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  shortest integer;
  longest integer;
  deadline timestamptz;
  change jsonb;
begin
  select r.outcomes, r.ids, r.numbers, r.reserved_at, r.expired
  into outcomes, ids, numbers, reserved_at, expired
  from reserve_v2(product_ids, user_ids, quantities, reference_texts, hold_seconds, events) r;
  if 'reserved' = all(array_remove(outcomes, 'offered')) then
    select min(coalesce(q.own_seconds, hold_seconds)), max(coalesce(q.own_seconds, hold_seconds))
    into shortest, longest
    from unnest(numbers) as q (own_seconds);
    if shortest < longest then
      numbers := array_fill(shortest, array[cardinality(ids)]);
      deadline := reserved_at + shortest * interval '1 second';
      change := jsonb_build_object('expires_at', deadline);
      -- reserve batch: one deadline
      update reservations_active h set expires_at = deadline where h.id = any(ids);
      -- reserve batch: the deadline in the events
      update outbox_events o
      set payload = o.payload || change
      where o.published_at is null and o.dead_at is null and o.next_attempt_at = reserved_at
        and o.event_type = 'ReservationCreated' and (o.payload ->> 'reservation_id')::bigint = any(ids);
    end if;
  elsif 'reserved' = any(outcomes) then
    -- Rolls back to the start of this block. Variables keep their values. Units of due holds that this call offered to
    -- users who wait for one of the products are rolled back, too: they are due as before, and the expirer, or the next
    -- call that finds them, hands them over.
    raise exception using errcode = 'FS001';
  end if;
exception when sqlstate 'FS001' then
  outcomes := array_replace(array_remove(outcomes, 'offered'), 'reserved', null);
  expired := 0;
end
$$;
