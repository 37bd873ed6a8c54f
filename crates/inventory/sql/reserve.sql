-- Reserves for a batch of requests, with the same result as one call per request in the given order.
--
-- Returns arrays in request order:
-- - outcomes: empty when every request was reserved. Behind those of the requests comes one 'offered' for each hold
--   that was offered to users who waited for units.
-- - ids: the id of the new hold, or of the existing hold that blocks the request. For sold_out, the id of the product
--   if users wait in its line.
-- - numbers: the free units for sold_out, the units that the user may still take for max_per_user_reached, or the
--   hold's seconds when the product defines them. Empty when every hold lasts hold_seconds.
--
-- Rows instead of arrays would cost a tenth more. `reserved_at` is the creation time of the new holds, if any.
-- `expired` counts the holds that this call expired. reference_texts is empty when no request has a reference.
--
-- `busy` is true when another transaction has locked one of several products and `wait` is false. Nothing else is
-- returned then. The call may have locked the other products. The transaction must end before it tries again with `wait`:
-- waiting with these locks held could deadlock. A call for one product always waits. `waited` is how long the call has
-- waited for locks, in microseconds.
--
-- The settings: a lock timeout proves that nothing was done, so the client may retry. The statistics may date from the
-- minute before the sale. Each table is therefore read in a step of its own, by arrays of keys. In a join, the planner
-- would read a whole table that it believes to be empty. A bitmap scan has no order, but the newest version must come
-- first. A custom plan per call would cost a single request more than all its other work.
create or replace function reserve_v3(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[],
  hold_seconds integer, events text[], wait boolean default true,
  out busy boolean, out outcomes text[], out ids bigint[], out numbers integer[],
  out reserved_at timestamptz, out expired bigint, out waited integer
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  size integer := cardinality(product_ids); first_id bigint := product_ids[1];
  one_product boolean := first_id = all(product_ids);
  sold_out bigint[] := '{}'::bigint[]; lines bigint[]; holds reservations_active[];
  locked bigint[]; fast record;
begin
  busy := false; expired := 0; waited := 0; outcomes := '{}'; ids := '{}'; numbers := '{}';
  if size = 0 then
    return;
  end if;

  -- reserve: look for a product without free units, the newest version first (see reserve_one_product.sql)
  if one_product then
    perform from (
      select p.stock from products p where p.id >= first_id and p.id <= first_id order by p.id desc limit 1
    ) p where p.stock = 0;
  else
    perform from products p where p.id = any(product_ids) and p.stock = 0;
  end if;
  if found then
    select o.sold_out, o.lines, o.holds into sold_out, lines, holds from sold_out_v2(product_ids, user_ids) o;
    -- The most frequent answer of a sale, without the set operations of reserve_rest.
    if one_product and sold_out <> '{}' and cardinality(holds) = 0 then
      outcomes := array_fill('sold_out'::text, array[size]); numbers := array_fill(0, array[size]);
      ids := array_fill(case when first_id = any(lines) then first_id end, array[size]);
      return;
    end if;
  end if;

  if not one_product or sold_out = '{}' then
    -- An assignment costs a third of `select … into … from`.
    if one_product then
      fast := reserve_one_product_v2(first_id, user_ids, quantities, reference_texts, hold_seconds);
      waited := fast.waited;
    else
      if wait then
        waited := wait_for_products_v3(array(select q.id from unnest(product_ids) as q (id) where q.id <> all(sold_out)));
      end if;
      fast := reserve_products_v1(product_ids, user_ids, quantities, reference_texts, hold_seconds, sold_out, wait);
      busy := fast.busy;
      if busy then
        -- Nothing was done, so the commit need not wait for the disk with the other products locked.
        perform set_config('synchronous_commit', 'off', true);
        return;
      end if;
    end if;
    ids := fast.ids; numbers := fast.numbers; reserved_at := fast.reserved_at; locked := fast.locked;
  end if;
  if cardinality(ids) = size and array_position(ids, null) is null then
    if 'ReservationCreated' = any(events) then
      perform write_events_v1('ReservationCreated', ids, reserved_at, events);
    end if;
    return;
  end if;

  select o.outcomes, o.ids, o.numbers, o.expired into outcomes, ids, numbers, expired
  from reserve_rest_v2(
    product_ids, user_ids, quantities, reference_texts, hold_seconds, events, sold_out, holds, locked, reserved_at,
    ids, numbers, lines
  ) o;
end
$$;
