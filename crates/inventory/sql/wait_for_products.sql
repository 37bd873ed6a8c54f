-- Locks these products in id order and waits for each lock. Returns whether it had to wait.
create or replace function wait_for_products_v1(product_ids bigint[])
returns boolean
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  this_id bigint;
  waited boolean := false;
begin
  for this_id in select distinct q.id from unnest(product_ids) as q (id) order by q.id loop
    -- wait: take the lock if it is free. The newest version first (see reserve_one_product.sql)
    perform
    from products p
    where p.id >= this_id and p.id <= this_id
    order by p.id desc
    limit 1
    for no key update skip locked;
    if not found then
      -- wait: until the lock is free
      perform
      from products p
      where p.id >= this_id and p.id <= this_id
      order by p.id desc
      limit 1
      for no key update;
      waited := waited or found;
    end if;
  end loop;
  return waited;
end
$$;
