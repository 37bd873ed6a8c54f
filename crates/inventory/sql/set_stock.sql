-- Sets a product's free units, and records the difference as adjust_stock does. Holds past their deadline that were not
-- reclaimed yet count as held. `outcome` is null when the product does not exist, 'stock_changed' when `expected` is
-- given and another number of units is free, 'total_too_large', or 'set'. `offered` counts the holds that users who wait
-- for the product were offered.
create or replace function set_stock_v1(
  product_id bigint, stock integer, expected integer, reason text, events text[],
  out outcome text, out product products, out offered bigint
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  adjusted record;
begin
  offered := 0;
  -- set stock: lock the product
  select * into product from products p where p.id = set_stock_v1.product_id for no key update;
  if not found then
    return;
  end if;
  if product.stock <> expected then
    outcome := 'stock_changed';
    return;
  end if;
  outcome := 'set';
  if product.stock = set_stock_v1.stock then
    return;
  end if;
  -- The product stays locked, so the difference is still right.
  adjusted := adjust_stock_v2(set_stock_v1.product_id, set_stock_v1.stock - product.stock, reason, events);
  if not adjusted.adjusted then
    outcome := 'total_too_large';
    return;
  end if;
  product := adjusted.product;
  offered := adjusted.offered;
end
$$;
