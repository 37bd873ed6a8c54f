-- Expires up to max_rows due holds of one product, longest due first; answers how many.
create or replace function expire_v2(product_id bigint, max_rows integer, events text[])
returns integer
language plpgsql
set lock_timeout = '5s'
-- The statistics may still describe the minute before the sale opened, when nothing was held.
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
