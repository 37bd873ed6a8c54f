-- Finds which of these products have no free unit and no due hold. If there is one, also finds the holds of these
-- users. `lines` are those in whose line users wait. Takes no lock: a request that comes too late does not wait, does not write, and does not delay a confirm.
create or replace function sold_out_v2(
  product_ids bigint[], user_ids bigint[], out sold_out bigint[], out lines bigint[], out holds reservations_active[]
)
language plpgsql
as $$
#variable_conflict use_column
begin
  -- reserve: what is sold out. One snapshot covers the product, its due holds and the users' own holds.
  with gone as materialized (
    select p.id, p.waiting
    from (
      -- The clock is read after the snapshot, so a hold that falls due in between counts as due. OFFSET 0 stops the
      -- planner from inlining the subquery: the clock is read once per product.
      select p.id, p.waiting, clock_timestamp() as t
      from products p
      where p.id = any(product_ids) and p.stock = 0
        and (p.sale_starts_at <= clock_timestamp()) is not false
        and (p.sale_ends_at > clock_timestamp()) is not false
      offset 0
    ) p
    where not exists (
      select from reservations_active r
      where r.product_id = p.id and r.expires_at <= p.t
        and r.quantity > 0 -- selects the index
    )
  )
  select array(select g.id from gone g), array(select g.id from gone g where g.waiting > 0), array(
    select h
    from reservations_active h
    where h.user_id = any(user_ids) and exists (select from gone)
      and h.product_id between (select min(g.id) from gone g) and (select max(g.id) from gone g)
      and h.user_id > 0 -- selects the index
  )
  into sold_out, lines, holds;
end
$$;
