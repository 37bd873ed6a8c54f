-- Reclaims due holds of a product until this many units are free, or no hold is due. Returns the product as it is
-- then. `expired` and `offered` count holds. The caller must hold the product's lock and must have read t after locking.
--
-- Where users wait, the units go to them first (see expire_holds.sql). Then there is one pass at most: it expires up to
-- 1,000 holds, and offers up to 1,000. A longer line would leave nothing of them, so it is left to the expirer. After the
-- end of the sale nobody waits, also before the line is closed.
create or replace function free_units_v2(
  product_id bigint, units bigint, t timestamptz, events text[],
  out product products, out expired bigint, out offered bigint
)
language plpgsql
as $$
#variable_conflict use_column
declare
  has_line boolean;
  swept bigint;
begin
  expired := 0;
  offered := 0;
  loop
    -- free units: read the product
    select * into product from products p where p.id = free_units_v2.product_id;
    exit when product.stock >= units;
    has_line := product.waiting > 0 and (product.sale_ends_at > t) is not false;
    exit when has_line and (product.waiting > 1000 or expired > 0);
    if has_line then
      offered := -offered_v1(array[free_units_v2.product_id]);
    end if;
    swept := reclaim_v2(free_units_v2.product_id, t, 1000, events);
    if has_line then
      offered := offered + offered_v1(array[free_units_v2.product_id]);
    end if;
    exit when swept = 0;
    expired := expired + swept;
  end loop;
end
$$;
