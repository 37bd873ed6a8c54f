-- The time of a new row of product_moves. Answers come from the last move of a product or a SKU. So this time is later than that
-- of all earlier ones, even if the clock was set back since.
create or replace function move_time_v1(product_id bigint, sku text)
returns timestamptz
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return (
    -- move time
    select greatest(clock_timestamp(), max(m.changed_at) + interval '1 microsecond')
    from product_moves m
    where m.product_id = move_time_v1.product_id or m.sku = move_time_v1.sku
  );
end
$$;
