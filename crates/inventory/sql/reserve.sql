-- Reserves for a batch of requests, as if they came one after the other in the given order.
--
-- Answers arrays in that order: each request's outcome; the hold's id (the new one, or the one that stands in the
-- way); and a number: how many units were free where it was sold out, how many more the user may have where that is
-- too few, and for how many seconds a hold lasts where the product says so. No outcomes at all: everything was
-- reserved; no numbers at all: each hold lasts hold_seconds. (Rows would cost a tenth more.) Also the time of this
-- call's holds, where it made any, and how many holds it expired. No reference at all is an empty array.
--
-- `busy`, and nothing else: somebody else has the lock of one of the products, and the call was told not to wait.
create or replace function reserve_v2(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[],
  hold_seconds integer, events text[], wait boolean default true,
  out busy boolean, out outcomes text[], out ids bigint[], out numbers integer[],
  out reserved_at timestamptz, out expired bigint
)
language plpgsql
-- A lock that cannot be had is a definite "nothing was done", and the client may retry.
set lock_timeout = '5s'
-- The statistics may still be those of the minute before the sale. So a table is read by arrays of keys alone, in a
-- step of its own: left to join it, the planner has read all of a table that it believed to be empty. Planning anew
-- for each call would cost a lone request more than everything else.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  size integer := cardinality(product_ids);
  one_product boolean := product_ids[1] = all(product_ids);
  first_id bigint := product_ids[1];
  sold_out bigint[] := '{}'::bigint[];
  locked bigint[];
  rest integer[];
  slow record;
begin
  busy := false;
  expired := 0;
  outcomes := '{}';
  ids := '{}';
  numbers := '{}';
  if size = 0 then
    return;
  end if;

  -- reserve: look for a product without free units, the newest version first (see lock_products.sql)
  if one_product then
    perform from (
      select p.stock from products p where p.id >= first_id and p.id <= first_id order by p.id desc limit 1
    ) p where p.stock = 0;
  else
    perform from products p where p.id = any(product_ids) and p.stock = 0;
  end if;
  if found then
    sold_out := sold_out_products_v1(product_ids);
  end if;

  if one_product and sold_out = '{}' then
    select o.busy, o.ids, o.numbers, o.reserved_at, o.locked into busy, ids, numbers, reserved_at, locked
    from reserve_one_product_v1(first_id, user_ids, quantities, reference_texts, hold_seconds, wait) o;
  elsif not one_product then
    select o.busy, o.ids, o.numbers, o.reserved_at, o.locked into busy, ids, numbers, reserved_at, locked
    from reserve_products_v1(product_ids, user_ids, quantities, reference_texts, hold_seconds, sold_out, wait) o;
  end if;
  if busy then
    return;
  end if;
  if 'ReservationCreated' = any(events) then
    perform write_events_v1('ReservationCreated', array_remove(ids, null), reserved_at, events);
  end if;
  if cardinality(ids) = size and array_position(ids, null) is null then
    return;
  end if;

  -- reserve: what the ordinary case has done, and what is sold out
  with held as materialized (
    select h.id, h.user_id, h.product_id
    from reservations_active h
    where h.user_id = any(user_ids) and sold_out <> '{}'
      and h.user_id > 0 -- selects the index
  )
  select array_agg(case
      when q.id is not null then 'reserved'
      when q.product_id <> all(sold_out) then null
      when h.id is null then 'sold_out'
      else 'already_reserved'
    end order by q.n),
    array_agg(coalesce(q.id, h.id) order by q.n),
    array_agg(case when q.id is not null then q.number when q.product_id = any(sold_out) then 0 end order by q.n)
  into outcomes, ids, numbers
  from unnest(product_ids, user_ids, ids, numbers) with ordinality as q (product_id, user_id, id, number, n)
  left join held h on h.user_id = q.user_id and h.product_id = q.product_id and h.product_id = any(sold_out);

  -- reserve: the rest, one by one
  rest := array(select q.n from unnest(outcomes) with ordinality as q (outcome, n) where q.outcome is null order by q.n);
  if rest = '{}' then
    return;
  end if;
  select o.* into slow
  from (
    select array_agg(q.product_id order by q.n) as product_ids, array_agg(q.user_id order by q.n) as user_ids,
      array_agg(q.quantity order by q.n) as quantities, array_agg(q.reference order by q.n) as reference_texts
    from unnest(product_ids, user_ids, quantities, reference_texts)
      with ordinality as q (product_id, user_id, quantity, reference, n)
    where q.n = any(rest)
  ) r,
  reserve_one_by_one_v1(
    r.product_ids, r.user_ids, r.quantities, r.reference_texts, hold_seconds, events, locked, reserved_at
  ) o;
  for i in 1 .. cardinality(rest) loop
    outcomes[rest[i]] := slow.outcomes[i];
    ids[rest[i]] := slow.ids[i];
    numbers[rest[i]] := slow.numbers[i];
  end loop;
  expired := slow.expired;
end
$$;
