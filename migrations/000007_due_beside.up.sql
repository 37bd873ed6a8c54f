-- A product with a thousand due holds, which somebody keeps locked, hid the due holds of all others from a sweep.

-- What is due: the products among the 1,000 holds that are longest due (a storm has more, and the next
-- look finds them), for how long the oldest has been due, and the time until the next hold falls due
-- (null: nothing is held), both in seconds. The products that are left out are so from what is due.
create or replace function due_v2(
  left_out bigint[], out products bigint[], out lag_seconds float8, out next_due_seconds float8
)
language plpgsql
set lock_timeout = '5s'
-- The statistics may be those of the minute before the sale: then a plan that sorts all that is due
-- seems as good as one that reads the first 1,000 from their index.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set plan_cache_mode = force_generic_plan
as $$
declare
  t timestamptz := clock_timestamp();
begin
  -- due: look at the longest due
  select coalesce(array_agg(distinct d.product_id order by d.product_id), '{}'),
    coalesce(extract(epoch from t - min(d.expires_at)), 0)
  into products, lag_seconds
  from (
    select r.product_id, r.expires_at
    from reservations r
    where r.status = 'ACTIVE' and r.expires_at <= t
      and r.created_at < 'infinity' -- the index's name tag
      and r.product_id <> all(left_out)
    order by r.expires_at
    limit 1000
  ) d;

  -- due: look for the next
  select extract(epoch from r.expires_at - t)
  into next_due_seconds
  from reservations r
  where r.status = 'ACTIVE' and r.expires_at > t
    and r.created_at < 'infinity' -- the index's name tag
  order by r.expires_at
  limit 1;
end
$$;
