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
  named bigint[];
  lines bigint[];
  served bigint := 0::bigint;
  before bigint;
  offered bigint := 0::bigint;
begin
  for pass in 1 .. 2 loop
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
        -- Rolls back to the start of this block. Variables keep their values. Units of due holds that this call offered
        -- to users who wait for one of the products are rolled back, too: they are due as before, and the expirer, or the
        -- next call that finds them, hands them over.
        raise exception using errcode = 'FS001';
      end if;
    exception when sqlstate 'FS001' then
      outcomes := array_replace(array_remove(outcomes, 'offered'), 'reserved', null);
      expired := 0;
    end;
    named := array(select q.id from unnest(ids, outcomes) as q (id, outcome) where q.outcome = 'already_reserved');
    -- reserve batch: whether the holds that the answer names are there
    exit when (select count(*) from reservations_active h where h.id = any(named)) = cardinality(named);

    -- The user waited for one of these products, was offered a hold, and was refused because of it. This hold must stay,
    -- because the answer names it. So the units are handed over once more, outside of the block.
    perform wait_for_products_v1(product_ids);
    -- reserve batch: products with a line
    lines := array(select p.id from products p where p.id = any(product_ids) and p.waiting > 0 order by p.id);
    before := offered_v1(lines);
    served := served + serve_waitlists_v1(lines, clock_timestamp(), events);
    offered := offered + offered_v1(lines) - before;
  end loop;
  expired := expired + served;
  if offered > 0 then
    outcomes := outcomes || array_fill('offered'::text, array[offered::integer]);
  end if;
end
$$;
