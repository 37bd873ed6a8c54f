-- The payload of StockAdjusted for a change of a product's stock. `stock` and `total` are those after the change.
create or replace function adjustment_payload_v1(adjustment stock_adjustments, stock integer, total integer)
returns jsonb
language sql stable
as $$
  select jsonb_build_object(
    'adjustment_id', adjustment.id, 'product_id', adjustment.product_id, 'delta', adjustment.delta,
    'reason', adjustment.reason, 'stock', stock, 'total', total, 'adjusted_at', adjustment.created_at
  )
$$;
