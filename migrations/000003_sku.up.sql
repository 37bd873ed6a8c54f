-- SKUs: the shop's own keys of its products.

-- Visible ASCII. Compared byte by byte.
create domain product_sku as text collate "C"
  constraint product_sku_visible_ascii check (value ~ '^[!-~]{1,64}$');

-- The domain's check makes PostgreSQL write the table again. A shop's products are few, so this takes milliseconds.
alter table products add column sku product_sku;
comment on column products.sku is 'the shop''s own key of the product: given once, and never changed';

-- GET /products?sku=, and a SKU in place of a product's id. Not built concurrently, because the table is small and is
-- locked anyway.
create unique index products_by_sku on products (sku) where sku is not null;

update schema_version set version = 3;
