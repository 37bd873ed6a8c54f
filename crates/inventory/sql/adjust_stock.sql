-- Adds free units to a product or removes some, and records the change in stock_adjustments. `adjusted` is false, and
-- nothing changes, when fewer units are free than requested or the total would overflow. `adjusted` is null when the
-- product does not exist. `expired` counts the holds that this call expired, and `offered` those that users who wait
-- for the product were offered.
create or replace function adjust_stock_v2(
  product_id bigint, delta integer, reason text, events text[],
  out adjusted boolean, out product products, out expired bigint, out offered bigint
)
language plpgsql
set lock_timeout = '5s'
-- The session caches the plans of reclaim. Reserve and expire use the same plans, so they need the same settings.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  freed record;
  adjustment stock_adjustments;
begin
  -- adjust stock: lock the product
  select * into product from products p where p.id = adjust_stock_v2.product_id for no key update;
  if not found then
    return;
  end if;
  t := clock_timestamp();
  expired := 0;
  offered := 0;

  if product.stock + delta::bigint < 0 then
    select * into freed from free_units_v2(adjust_stock_v2.product_id, -delta::bigint, t, events);
    product := freed.product;
    expired := freed.expired;
    offered := freed.offered;
  end if;
  adjusted := product.stock + delta::bigint >= 0 and product.total + delta::bigint <= 2147483647;
  if not adjusted then
    return;
  end if;

  -- adjust stock: add or take the units
  update products p
  set stock = p.stock + delta, total = p.total + delta
  where p.id = adjust_stock_v2.product_id
  returning p.* into product;

  -- adjust stock: record the adjustment
  insert into stock_adjustments (product_id, delta, reason, created_at)
  values (adjust_stock_v2.product_id, adjust_stock_v2.delta, adjust_stock_v2.reason, t)
  returning * into adjustment;

  if 'StockAdjusted' = any(events) then
    -- adjust stock: write the event
    insert into outbox_events (event_type, payload, created_at, next_attempt_at)
    values ('StockAdjusted', adjustment_payload_v1(adjustment, product.stock, product.total), t, t);
  end if;

  if product.waiting > 0 then
    offered := offered + cardinality(offer_units_v1(adjust_stock_v2.product_id, t, events))::bigint;
    -- adjust stock: read the product again
    select * into product from products p where p.id = adjust_stock_v2.product_id;
  end if;
end
$$;
