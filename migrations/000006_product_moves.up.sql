-- Moves of products to other cells. See crates/inventory/src/move_product.rs.
create table product_moves (
  id uuid constraint product_moves_pkey primary key,
  product_id bigint not null,
  sku product_sku,
  status text not null
    constraint product_moves_status_known check (status in ('DEPARTED', 'FINISHED', 'ARRIVED', 'UNDONE')),
  to_cell integer not null,
  parcel jsonb,
  changed_at timestamptz not null default clock_timestamp(),
  constraint product_moves_parcel check ((parcel is not null) = (status = 'DEPARTED'))
);
comment on column product_moves.status is
  'in the old cell DEPARTED, then FINISHED; in the new cell ARRIVED; UNDONE in both: the product has stayed';
comment on column product_moves.parcel is
  'all that departed and is not in this cell any more, until the new cell has it';

-- An answer about a product that is not here.
create index product_moves_by_product on product_moves (product_id, changed_at);
create index product_moves_by_sku on product_moves (sku, changed_at) where sku is not null;
-- A product is on its way once.
create unique index product_moves_one_departure on product_moves (product_id) where status = 'DEPARTED';

-- Reservations that have moved to another cell, for answers about them. May be emptied when no client asks any more.
create table moved_reservations (
  id bigint constraint moved_reservations_pkey primary key,
  product_id bigint not null
);

update schema_version set version = 6;
