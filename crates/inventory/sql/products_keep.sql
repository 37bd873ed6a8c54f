-- Refuses to delete products that have reservations, unless they move to another cell. Replaces a foreign key on
-- reservations.product_id. A foreign key would look up the product once more per hold, a sixth of the cost of a reserve,
-- although reserve has just locked the product. Only deletes need a check, because an identity column cannot be updated.
-- Without triggers, as on Citus, the audit finds reservations without a product.
create or replace function products_keep_v1() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and exists (
    select from product_moves m where m.product_id = old.id and m.status = 'DEPARTED'
  ) then
    return old;
  end if;
  if tg_op = 'TRUNCATE' or exists (
    select from reservations_active r where r.product_id = old.id and r.quantity > 0 -- selects the index
  ) or exists (
    select from reservations_ended r where r.product_id = old.id and r.created_at > '-infinity' -- selects the index
  ) then
    raise foreign_key_violation using
      message = 'a product with reservations cannot be deleted',
      constraint = tg_name,
      table = 'products';
  end if;
  return old;
end
$$;
create or replace trigger products_keep before delete on products
  for each row execute function products_keep_v1();
create or replace trigger products_keep_all before truncate on products
  for each statement execute function products_keep_v1();
