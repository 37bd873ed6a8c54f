-- What is due: the products among the holds that are longest due (of some 1,000 holds: a storm has more, and the
-- next look finds them), for how long the oldest has been due, and the time until the next hold falls due (null:
-- none will), both in seconds. The products that are left out are so from what is due.
create or replace function due_v2(
  left_out bigint[], out products bigint[], out lag_seconds float8, out next_due_seconds float8
)
language plpgsql
set lock_timeout = '5s'
-- The statistics may be those of the minute before the sale.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
-- A sort that is not to be had otherwise, as that of a handful of products below, looks so dear that it would be compiled.
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz := clock_timestamp();
  current bigint := 0::bigint;
  deadline timestamptz;
  next_deadline timestamptz;
  due bigint[] := '{}'::bigint[];
  due_since timestamptz[] := '{}'::timestamptz[];
  seen bigint := 0::bigint;
begin
  -- From product to product: a few microseconds for each that holds anything. An index of all deadlines would cost
  -- each reserve about a microsecond instead.
  loop
    -- due: the first deadline of the next product
    select r.product_id, r.expires_at into current, deadline
    from reservations_active r
    where r.product_id > current
      and r.quantity > 0 -- selects the index
    order by r.product_id, r.expires_at
    limit 1;
    exit when not found;
    if deadline <= t then
      if current <> all(left_out) then
        due := due || current;
        due_since := due_since || deadline;
      end if;
      -- due: its first deadline that has not passed
      select r.expires_at into deadline
      from reservations_active r
      where r.product_id = current and r.expires_at > t
        and r.quantity > 0 -- selects the index
      order by r.product_id, r.expires_at
      limit 1;
    end if;
    next_deadline := least(next_deadline, deadline);
  end loop;
  next_due_seconds := extract(epoch from next_deadline - t)::float8;

  -- due: longest due first
  select coalesce(array_agg(d.product order by d.since), '{}'), array_agg(d.since order by d.since)
  into due, due_since
  from unnest(due, due_since) as d (product, since);
  lag_seconds := coalesce(extract(epoch from t - due_since[1]), 0)::float8;
  products := '{}';
  for i in 1 .. cardinality(due) loop
    exit when seen >= 1000;
    products := products || due[i];
    -- due: holds that are longer due than the next product's
    seen := seen + (
      select count(*)
      from (
        select from reservations_active r
        where r.product_id = due[i] and r.expires_at between due_since[i] and coalesce(due_since[i + 1], t)
          and r.quantity > 0 -- selects the index
        limit 1000
      ) r
    );
  end loop;
  products := array(select p.id from unnest(products) as p (id) order by p.id);
end
$$;
