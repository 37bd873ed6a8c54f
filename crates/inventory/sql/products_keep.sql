-- Keeps products that have reservations. Stands in for a foreign key on reservations.product_id, which would look the
-- product up once more for each hold, a sixth of what a reserve costs, though reserve has just locked it: only the
-- way out of products is left to be watched. (An identity's value cannot be updated.) Where triggers cannot be had,
-- as on Citus, the audit finds reservations whose product is gone.
create or replace function products_keep_v1() returns trigger language plpgsql as $$
begin
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
