-- Gives free units of these products, and units of holds that are due, to those who wait for them. Expires at most
-- about 1,000 holds of all products together: the others are left to the expirer. Returns the number of expired holds. The caller must hold the products' locks and must
-- have read t after locking.
create or replace function serve_waitlists_v1(product_ids bigint[], t timestamptz, events text[])
returns bigint
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  this_id bigint;
  product products;
  wanted bigint;
  swept bigint;
  expired bigint := 0::bigint;
begin
  perform offer_each_v1(product_ids, t, events);
  foreach this_id in array product_ids loop
    loop
      exit when expired >= 1000;
      -- serve waitlists: read the product
      select * into product from products p where p.id = this_id;
      exit when product.waiting = 0 or (product.sale_starts_at > t) is true or (product.sale_ends_at <= t) is true;

      -- serve waitlists: what the first in line want
      select sum(l.quantity) into wanted
      from (
        select e.quantity
        from waitlist_entries e
        where e.product_id = this_id and e.status = 'WAITING'
        order by e.product_id, e.id
        limit 250
      ) l;
      -- The units that this frees are offered in the same step (see expire_holds.sql).
      swept := reclaim_v2(this_id, t, greatest(least(wanted - product.stock, 250), 0)::integer, events);
      exit when swept = 0;
      expired := expired + swept;
    end loop;
  end loop;
  return expired;
end
$$;
