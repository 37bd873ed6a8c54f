-- Expires up to max_rows due holds of one product, longest due first. Their units go to users who wait for them, if any.
-- Returns the number of expired holds, and of holds that were offered. With `durable`, the commit waits for the disk in any
-- case: the caller tells somebody that the holds have expired. Without `wait`, nothing is done while another transaction has
-- locked the product: `locked`. That transaction may be a batch of reserves, or one that somebody forgot to end.
-- `wanted`: as many as allowed were expired, and another transaction waited for this one just before the commit.
create or replace function expire_v6(
  product_id bigint, max_rows integer, events text[], durable boolean, wait boolean,
  out expired integer, out offered integer, out locked boolean, out wanted boolean
)
language plpgsql
set lock_timeout = '5s'
-- The statistics may date from the minute before the sale, when the table was empty.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  has_line boolean;
  before bigint;
begin
  expired := 0;
  offered := 0;
  wanted := false;
  if wait then
    -- expire: lock the product
    select p.waiting > 0 into has_line from products p where p.id = expire_v6.product_id for no key update;
  else
    -- expire: lock the product if nobody else has
    select p.waiting > 0 into has_line from products p where p.id = expire_v6.product_id for no key update skip locked;
  end if;
  locked := not found and not wait;
  if locked then
    return;
  end if;
  if has_line then
    before := offered_v1(array[product_id]);
  end if;
  expired := reclaim_v2(product_id, clock_timestamp(), max_rows, events)::integer;
  if has_line then
    offered := (offered_v1(array[product_id]) - before)::integer;
  elsif not durable and not 'ReservationExpired' = any(events) then
    -- The commit need not wait for the disk, which would take most of the time of a sweep. If a crash undoes it, the holds
    -- are due again, which they also were for everybody before. A sale of these units waits for the disk, and with it for
    -- this commit, because the log is written in order.
    perform set_config('synchronous_commit', 'off', true);
  end if;
  -- expire: whether another transaction waits
  wanted := expired >= max_rows and exists (
    select from pg_locks l
    where l.locktype = 'transactionid' and l.transactionid = pg_current_xact_id_if_assigned()::xid and not l.granted
  );
end
$$;
