-- Reclaims due holds of a product until this many units are free, or no hold is due. Returns the product as it is
-- then. `expired` counts the holds. The caller must hold the product's lock and must have read t after locking.
create or replace function free_units_v1(
  product_id bigint, units bigint, t timestamptz, events text[], out product products, out expired bigint
)
language plpgsql
as $$
#variable_conflict use_column
declare
  swept bigint;
begin
  expired := 0;
  loop
    -- free units: read the product
    select * into product from products p where p.id = free_units_v1.product_id;
    exit when product.stock >= units;
    swept := reclaim_v2(free_units_v1.product_id, t, 1000, events);
    exit when swept = 0;
    expired := expired + swept;
  end loop;
end
$$;
