-- Does what is due in the waitlist of a product: offers free units, or closes the line after the end of the sale.
-- Returns the number of offered holds.
create or replace function settle_waitlist_v1(product_id bigint, events text[])
returns bigint
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- settle waitlist: lock the product
  perform from products p where p.id = settle_waitlist_v1.product_id for no key update;
  return cardinality(offer_units_v1(product_id, clock_timestamp(), events))::bigint;
end
$$;
