-- Which of these products have no free unit and no hold that is due. It takes no lock: a request that comes too late
-- waits for nobody, writes nothing, and keeps nobody from confirming a hold.
create or replace function sold_out_products_v1(product_ids bigint[])
returns bigint[]
language sql
set enable_seqscan = off
as $$
  -- reserve: which products are sold out
  select coalesce(array_agg(p.id), '{}')
  from (
    -- One snapshot decides about a product and its holds. The clock is read after that snapshot was taken: a hold
    -- that falls due in between counts as due. The offset keeps it at one reading and one look a product.
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
$$;
