-- Gives the free units of these products to those who wait for them (see offer_units). Returns the ids of all holds.
-- The caller must hold the products' locks and must have read t after locking.
create or replace function offer_each_v1(product_ids bigint[], t timestamptz, events text[])
returns bigint[]
language plpgsql
as $$
#variable_conflict use_column
declare
  this_id bigint;
  offered bigint[] := '{}'::bigint[];
begin
  foreach this_id in array product_ids loop
    offered := offered || offer_units_v1(this_id, t, events);
  end loop;
  return offered;
end
$$;
