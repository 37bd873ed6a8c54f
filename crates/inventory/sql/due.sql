-- Finds the products with due holds, those of the longest overdue hold first. `lag_seconds` is how long that hold has been
-- due. `next_due_seconds` is the time until the next hold falls due (null: there is none). Products in left_out are
-- excluded from the products and from the lag.
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
begin
  select f.due, f.due_since, f.next_deadline into due, due_since, next_deadline from first_deadlines_v1(t) f;
  next_due_seconds := extract(epoch from next_deadline - t)::float8;

  -- due: without those that are left out
  select coalesce(array_agg(d.product order by d.since), '{}'),
    coalesce(extract(epoch from t - min(d.since)), 0)::float8
  into products, lag_seconds
  from unnest(due, due_since) as d (product, since)
  where d.product <> all(left_out);
end
$$;
