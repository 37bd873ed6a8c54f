-- Waits until this transaction may reserve these products: first for its turn among the processes that reserve in turn,
-- then for the products' locks. Returns whether it had to wait.
--
-- A turn is an advisory lock, because its queue wakes one transaction at a time. The lock of a row wakes all that wait for
-- it: each reads the new version of the row, and all but one wait again. The key is negative, so that no other advisory
-- lock of this service has it.
create or replace function take_turn_v1(product_ids bigint[])
returns boolean
language plpgsql
as $$
#variable_conflict use_column
declare
  this_id bigint;
  waited boolean := false;
begin
  for this_id in select distinct q.id from unnest(product_ids) as q (id) order by q.id loop
    if not pg_try_advisory_xact_lock(-this_id) then
      perform pg_advisory_xact_lock(-this_id);
      waited := true;
    end if;
  end loop;
  return wait_for_products_v1(product_ids) or waited;
end
$$;
