-- Reserves all requests or none. Works as reserve_v3, but one refusal rolls back the others, which then have no
-- outcome. All holds get the same deadline, the earliest that one of them would have alone: an order must not lose a
-- part of its holds.
create or replace function reserve_batch_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[],
  hold_seconds integer, events text[],
  out outcomes text[], out ids bigint[], out numbers integer[],
  out reserved_at timestamptz, out expired bigint
)
language plpgsql
-- For the second pass: reserve_v3 has its own.
set lock_timeout = '5s'
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  shortest integer;
  longest integer;
  undone boolean;
  there bigint[];
  lines bigint[];
  served bigint := 0::bigint;
  before bigint;
  offered bigint := 0::bigint;
begin
  for pass in 1 .. 2 loop
    undone := false;
    begin
      select r.outcomes, r.ids, r.numbers, r.reserved_at, r.expired
      into outcomes, ids, numbers, reserved_at, expired
      from reserve_v3(product_ids, user_ids, quantities, reference_texts, hold_seconds, events) r;
      if 'reserved' = all(array_remove(outcomes, 'offered')) then
        select min(coalesce(q.own_seconds, hold_seconds)), max(coalesce(q.own_seconds, hold_seconds))
        into shortest, longest
        from unnest(numbers) as q (own_seconds);
        if shortest < longest then
          numbers := array_fill(shortest, array[cardinality(ids)]);
          perform shorten_holds_v1(ids, reserved_at, shortest);
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
      undone := true;
    end;
    exit when not undone or array_position(outcomes, 'already_reserved') is null;
    -- reserve batch: whether the holds that the answer names are there
    there := array(select h.id from reservations_active h where h.id = any(ids));
    lines := array(
      select distinct q.product_id from unnest(product_ids, ids, outcomes) as q (product_id, id, outcome)
      where q.outcome = 'already_reserved' and q.id <> all(there)
      order by q.product_id
    );
    exit when lines = '{}';

    -- The user waited for these products, was offered holds, and was refused because of them. They must stay, because the
    -- answer names them. So the units are handed over once more, outside of the block.
    perform wait_for_products_v3(product_ids);
    before := offered_v1(lines);
    served := served + serve_waitlists_v1(lines, clock_timestamp(), events);
    offered := offered + offered_v1(lines) - before;
  end loop;
  expired := expired + served;
  if offered > 0 then
    -- Another call may have ended a hold that blocked the first pass.
    if outcomes = '{}' then
      outcomes := array_fill('reserved'::text, array[cardinality(ids)]);
    end if;
    outcomes := outcomes || array_fill('offered'::text, array[offered::integer]);
  end if;
end
$$;
