-- Finds products whose waitlist is due, without those in left_out, longest due first, at most 100. `next_due_seconds`
-- is the time until the next one falls due (null: there is none).
create or replace function due_waitlists_v1(left_out bigint[], out products bigint[], out next_due_seconds float8)
language plpgsql
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz := clock_timestamp();
begin
  -- due waitlists
  select array(
    select w.product_id
    from waitlists w
    where w.due_at <= t and w.product_id <> all(left_out)
    order by w.due_at
    limit 100
  ), (
    select extract(epoch from min(w.due_at) - t)::float8 from waitlists w where w.due_at > t
  )
  into products, next_due_seconds;
end
$$;
