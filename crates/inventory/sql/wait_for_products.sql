-- Locks these products in id order and waits for each lock. Returns how long it has waited, in microseconds. The caller must
-- have set that scans use indexes: settings of its own would cost as much as a lock.
create or replace function wait_for_products_v3(product_ids bigint[])
returns integer
language plpgsql
as $$
#variable_conflict use_column
declare
  this_id bigint; since timestamptz; waited interval := interval '0';
begin
  for this_id in select distinct q.id from unnest(product_ids) as q (id) order by q.id loop
    -- wait: try, the newest version first (see reserve_one_product.sql)
    perform
    from products p
    where p.id >= this_id and p.id <= this_id
    order by p.id desc
    limit 1
    for no key update skip locked;
    continue when found;
    since := clock_timestamp();
    -- wait: for the lock
    perform
    from products p
    where p.id >= this_id and p.id <= this_id
    order by p.id desc
    limit 1
    for no key update;
    if found then
      waited := waited + (clock_timestamp() - since);
    end if;
  end loop;
  -- The clock may be set meanwhile.
  return least(greatest(extract(epoch from waited) * 1000000, 0), 60000000)::integer;
end
$$;
