-- Locks these products in id order and waits for each lock. The caller must have set that scans use indexes: settings of
-- its own would cost as much as a lock.
create or replace function wait_for_products_v2(product_ids bigint[])
returns void
language plpgsql
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
