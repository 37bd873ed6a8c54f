-- Which of these SKUs belong to products that have left this cell, or are on their way, and the cell of each. No other product
-- may get such a SKU here: the cell answers requests that name it, and the product may come back.
create or replace function moved_skus_v1(skus text[])
returns table (sku text, to_cell integer)
language plpgsql
stable
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  -- moved skus: those of products that have not come back since
  select m.sku::text, m.to_cell
  from product_moves m
  where m.sku = any(skus) and m.status in ('DEPARTED', 'FINISHED')
    and not exists (
      select from product_moves l
      where l.product_id = m.product_id and l.changed_at > m.changed_at and l.status <> 'UNDONE'
    );
end
$$;
