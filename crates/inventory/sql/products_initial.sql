-- Records the initial units of a product, also when a person inserts it by hand. Without triggers, as on Citus, the
-- API records them itself, and the audit skips the total of a product that was inserted by hand.
create or replace function products_initial_v1() returns trigger language plpgsql as $$
begin
  new.initial := new.total;
  return new;
end
$$;
create or replace trigger products_initial before insert on products
  for each row execute function products_initial_v1();
