-- Which of these products have no free unit and no hold that is due; and if there are any, what these users hold of the
-- products. It takes no lock: a request that comes too late waits for nobody, writes nothing, and keeps nobody from
-- confirming a hold.
create or replace function sold_out_v1(
  product_ids bigint[], user_ids bigint[], out sold_out bigint[], out holds reservations_active[]
)
language plpgsql
as $$
#variable_conflict use_column
begin
  -- reserve: what is sold out. One snapshot decides about a product, its due holds and the users' own.
  with gone as materialized (
    select p.id
    from (
      -- The clock is read after the snapshot was taken: a hold that falls due in between counts as due. The offset
      -- keeps it at one reading and one look a product.
      select p.id, clock_timestamp() as t
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
  select array(select g.id from gone g), array(
    select h
    from reservations_active h
    where h.user_id = any(user_ids) and exists (select from gone)
      and h.product_id between (select min(g.id) from gone g) and (select max(g.id) from gone g)
      and h.user_id > 0 -- selects the index
  )
  into sold_out, holds;
end
$$;
