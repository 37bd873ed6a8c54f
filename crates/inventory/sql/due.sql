-- Finds the products with the longest overdue holds, until about 1,000 due holds are covered. The next call finds the
-- rest. `lag_seconds` is how long the oldest hold has been due. `next_due_seconds` is the time until the next hold
-- falls due (null: there is none). Products in left_out are excluded from the products and from the lag.
create or replace function due_v2(
  left_out bigint[], out products bigint[], out lag_seconds float8, out next_due_seconds float8
)
language plpgsql
set lock_timeout = '5s'
-- The statistics may date from the minute before the sale.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
-- Some sorts cannot be avoided, as the one of a few products below. With enable_sort off their estimated cost would
-- trigger the JIT compiler.
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz := clock_timestamp();
  next_deadline timestamptz;
  due bigint[];
  due_since timestamptz[];
  seen bigint := 0::bigint;
begin
  select f.due, f.due_since, f.next_deadline into due, due_since, next_deadline from first_deadlines_v1(t) f;
  next_due_seconds := extract(epoch from next_deadline - t)::float8;

  -- due: without those that are left out
  select coalesce(array_agg(d.product order by d.since), '{}'), array_agg(d.since order by d.since)
  into due, due_since
  from unnest(due, due_since) as d (product, since)
  where d.product <> all(left_out);
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
