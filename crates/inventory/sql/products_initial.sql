-- Notes the units at creation, also where a person creates the product. Where triggers cannot be had, as on Citus,
-- the API notes them itself, and the audit does not compare the total of a product that was made by hand.
create or replace function products_initial_v1() returns trigger language plpgsql as $$
begin
  new.initial := new.total;
  return new;
end
$$;
create or replace trigger products_initial before insert on products
  for each row execute function products_initial_v1();
