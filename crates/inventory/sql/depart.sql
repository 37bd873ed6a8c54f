-- Takes a product out of this cell, with all that belongs to it, and returns it as a parcel. Null: there is no such
-- product. The parcel also stays in product_moves, until the new cell has it.
--
-- Ended reservations are not in the parcel. They stay until forget_moved_v1 deletes them. Nothing changes them without
-- their product: see return.sql and reacquire.sql.
create or replace function depart_v1(product_id bigint, move_id uuid, to_cell integer, out parcel jsonb)
language plpgsql
-- Requests wait for the product meanwhile, so this call must not wait for as long as they do.
set lock_timeout = '2s'
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  product products;
  held jsonb;
begin
  -- depart: lock the product
  select * into product from products p where p.id = depart_v1.product_id for update;
  if not found then
    return;
  end if;

  -- depart: the holds
  with gone as (
    delete from reservations_active r
    where r.product_id = product.id and r.quantity > 0 -- selects the index
    returning r.*
  ), known as (
    insert into moved_reservations (id, product_id) select g.id, g.product_id from gone g on conflict (id) do nothing
  )
  select coalesce(jsonb_agg(to_jsonb(g)), '[]') into held from gone g;

  parcel := jsonb_build_object(
    'id', move_id, 'to_cell', to_cell, 'product', to_jsonb(product), 'active', held
  ) || depart_rest_v1(product.id);
  -- depart: keep the parcel
  insert into product_moves (id, product_id, sku, status, to_cell, parcel, changed_at)
  values (move_id, product.id, product.sku, 'DEPARTED', to_cell, parcel, move_time_v1(product.id, product.sku));
  -- depart: the product is not on sale here any more. products_keep_v1 allows this to a product that departs.
  delete from products p where p.id = product.id;
end
$$;
