-- Does what is due in the waitlist of a product: offers free units, or closes the line after the end of the sale.
-- Returns the number of offered holds. Without `wait`, nothing is done while another transaction has locked the product:
-- `locked`.
create or replace function settle_waitlist_v2(
  product_id bigint, events text[], wait boolean, out offered bigint, out locked boolean
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  offered := 0;
  if wait then
    -- settle waitlist: lock the product
    perform from products p where p.id = settle_waitlist_v2.product_id for no key update;
  else
    -- settle waitlist: lock the product if nobody else has
    perform from products p where p.id = settle_waitlist_v2.product_id for no key update skip locked;
  end if;
  locked := not found and not wait;
  if not locked then
    offered := cardinality(offer_units_v1(product_id, clock_timestamp(), events))::bigint;
  end if;
end
$$;
