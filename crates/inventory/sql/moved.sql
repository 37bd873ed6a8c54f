-- Where a product is that is not here: the product with this id or SKU, or that of a reservation that is not here. Null:
-- nowhere that this cell knows. `is_finished` is false while the product is on its way, and when it has just come.
create or replace function moved_v1(
  product_id bigint, reservation_id bigint, sku text, out to_cell integer, out is_finished boolean
)
language plpgsql
stable
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  product bigint := moved_v1.product_id;
  status text;
begin
  if sku is not null then
    -- moved: the product with the SKU
    select m.product_id into product
    from product_moves m
    where m.sku = moved_v1.sku
    order by m.changed_at desc
    limit 1;
  elsif product is null then
    -- moved: the product of the reservation
    select r.product_id into product from moved_reservations r where r.id = moved_v1.reservation_id;
    if not found then
      -- moved: the same while it waits for its deletion
      select r.product_id into product from reservations_ended r where r.id = moved_v1.reservation_id;
    end if;
  end if;
  -- moved: the last move of the product. When it has come back, that is an arrival. A move that was undone counts only if
  -- there is no other: the product has stayed where it was, which may be elsewhere.
  select m.to_cell, m.status into to_cell, status
  from product_moves m
  where m.product_id = product
  order by m.status = 'UNDONE', m.changed_at desc
  limit 1;
  is_finished := status = 'FINISHED';
  if status in ('ARRIVED', 'UNDONE') then
    -- moved: has it come since the caller looked
    perform from products p where p.id = product;
    if not found then
      to_cell := null;
    end if;
  end if;
end
$$;
