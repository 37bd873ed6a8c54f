-- Locks these products in id order and waits for each lock.
create or replace function wait_for_products_v2(product_ids bigint[])
returns void
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  this_id bigint;
begin
  for this_id in select distinct q.id from unnest(product_ids) as q (id) order by q.id loop
    -- wait: the newest version first (see reserve_one_product.sql)
    perform
    from products p
    where p.id >= this_id and p.id <= this_id
    order by p.id desc
    limit 1
    for no key update;
  end loop;
end
$$;
