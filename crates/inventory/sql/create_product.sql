-- Creates a product, and returns it. No row: another product has the SKU, here or in another cell. That is no error, because an
-- error would abort the transaction, and the refusal could not be stored under an idempotency key.
create or replace function create_product_v1(
  name text, stock integer, sku text, hold_seconds integer, max_hold_seconds integer, max_per_user integer,
  sale_starts_at timestamptz, sale_ends_at timestamptz
)
returns setof products
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  if sku is not null then
    -- product: wait until no product with the SKU departs. The insert would wait, too, and then not know of the move.
    perform from products p where p.sku = create_product_v1.sku for key share;
    -- product: the SKU of one that has moved
    perform from moved_skus_v1(array[create_product_v1.sku]);
    if found then
      return;
    end if;
  end if;
  return query
  -- product: create
  insert into products (name, stock, total, initial, sku, hold_seconds, max_hold_seconds, max_per_user, sale_starts_at,
    sale_ends_at)
  values (name, stock, stock, stock, sku, hold_seconds, max_hold_seconds, max_per_user, sale_starts_at, sale_ends_at)
  on conflict (sku) where sku is not null do nothing
  returning *;
end
$$;
