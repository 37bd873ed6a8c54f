-- Reclaims due holds of the products that have fewer free units than these requests need. Returns the number of
-- holds. The caller must hold the products' locks and must have read t after locking.
create or replace function reclaim_short_v1(
  product_ids bigint[], quantities integer[], outcomes text[], locked bigint[], t timestamptz, events text[]
)
returns bigint
language plpgsql
as $$
#variable_conflict use_column
declare
  short record;
  reclaimed bigint := 0::bigint;
begin
  for short in
    -- reserve: where stock is short
    with ours as materialized (
      -- Not where users wait: due units are theirs, and serve_waitlists has decided how many come free in this call.
      select p.id, p.stock from products p where p.id = any(locked) and p.waiting = 0
    )
    select p.id, sum(q.quantity) - p.stock as units
    from unnest(product_ids, quantities, outcomes) as q (product_id, quantity, outcome)
    join ours p on p.id = q.product_id
    where q.outcome in ('reserved', 'sold_out')
    group by p.id, p.stock
    having sum(q.quantity) > p.stock
    order by p.id
  loop
    -- One pass is limited to 1,000 holds: a pass over 100,000 due holds would keep the row locked for a second.
    reclaimed := reclaimed + reclaim_v2(short.id, t, least(short.units, 1000)::integer, events);
  end loop;
  return reclaimed;
end
$$;
