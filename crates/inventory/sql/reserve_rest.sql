-- The rest of a batch of reserve: requests for products that are sold out, and requests that the ordinary case left
-- over. `served` and `seconds` are the ids and the hold's seconds from the ordinary case. The other arguments and the
-- results are those of reserve_v3.
create or replace function reserve_rest_v2(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[], hold_seconds integer,
  events text[], sold_out bigint[], holds reservations_active[], locked bigint[], reserved_at timestamptz,
  served bigint[], seconds integer[], lines bigint[],
  out outcomes text[], out ids bigint[], out numbers integer[], out expired bigint
)
language plpgsql
as $$
#variable_conflict use_column
declare
  left_over bigint[];
  rest record;
begin
  expired := 0;
  -- reserve: what was done, and what is sold out
  select array_agg(case
      when q.id is not null then 'reserved'
      when q.product_id <> all(sold_out) then null
      when h.id is null then 'sold_out'
      else 'already_reserved'
    end order by q.n),
    array_agg(coalesce(q.id, h.id, case when q.product_id = any(lines) then q.product_id end) order by q.n),
    array_agg(case when q.id is not null then q.number when q.product_id = any(sold_out) then 0 end order by q.n),
    array_agg(q.n order by q.n) filter (where q.id is null and q.product_id <> all(sold_out))
  into outcomes, ids, numbers, left_over
  from unnest(product_ids, user_ids, served, seconds) with ordinality as q (product_id, user_id, id, number, n)
  left join unnest(holds) h on h.user_id = q.user_id and h.product_id = q.product_id and h.product_id = any(sold_out);
  if 'ReservationCreated' = any(events) and 'reserved' = any(outcomes) then
    perform write_events_v1('ReservationCreated', array(
      select q.id from unnest(ids, outcomes) as q (id, outcome) where q.outcome = 'reserved'
    ), reserved_at, events);
  end if;
  if left_over is null then
    return;
  end if;

  -- reserve: what is left over
  select o.outcomes, o.ids, o.numbers, o.expired into rest
  from (
    select array_agg(q.product_id order by q.n) as product_ids, array_agg(q.user_id order by q.n) as user_ids,
      array_agg(q.quantity order by q.n) as quantities, array_agg(q.reference order by q.n) as reference_texts
    from unnest(product_ids, user_ids, quantities, reference_texts, outcomes)
      with ordinality as q (product_id, user_id, quantity, reference, outcome, n)
    where q.outcome is null
  ) q,
  reserve_one_by_one_v1(
    q.product_ids, q.user_ids, q.quantities, q.reference_texts, hold_seconds, events, locked, reserved_at
  ) o;
  expired := rest.expired;
  for i in 1 .. cardinality(left_over) loop
    outcomes[left_over[i]] := rest.outcomes[i];
    ids[left_over[i]] := rest.ids[i];
    numbers[left_over[i]] := rest.numbers[i];
  end loop;
  outcomes := outcomes || array_remove(rest.outcomes[cardinality(left_over) + 1:], null);
end
$$;
