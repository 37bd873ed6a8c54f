-- Ends a WAITING entry at the user's wish. Those behind it move up, and may be offered units. Returns the entry as it is
-- after the call (null: there is none), and whether this call changed it. `offered` counts holds.
create or replace function leave_waitlist_v1(
  id bigint, events text[], out entry waitlist_entries, out changed boolean, out offered bigint
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
begin
  changed := false;
  offered := 0;
  -- leave waitlist: find the entry
  select * into entry from waitlist_entries e where e.id = leave_waitlist_v1.id;
  -- leave waitlist: lock the product
  perform from products p where p.id = entry.product_id for no key update;
  t := clock_timestamp();

  -- leave waitlist: end the entry
  update waitlist_entries e
  set status = 'LEFT', ended_at = t
  where e.id = leave_waitlist_v1.id and e.product_id = entry.product_id and e.status = 'WAITING'
  returning e.* into entry;
  changed := found;
  if changed then
    -- leave waitlist: count it
    update products p set waiting = p.waiting - 1 where p.id = entry.product_id;
    offered := cardinality(offer_units_v1(entry.product_id, t, events))::bigint;
  else
    -- leave waitlist: read it again
    select * into entry from waitlist_entries e where e.id = leave_waitlist_v1.id;
  end if;
end
$$;
