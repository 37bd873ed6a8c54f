-- Expires up to max_rows due holds of one product, longest due first. Returns the number of holds.
create or replace function expire_v2(product_id bigint, max_rows integer, events text[])
returns integer
language plpgsql
set lock_timeout = '5s'
-- The statistics may date from the minute before the sale, when the table was empty.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- expire: lock the product
  perform from products p where p.id = expire_v2.product_id for no key update;
  return reclaim_v2(product_id, clock_timestamp(), max_rows, events)::integer;
end
$$;
