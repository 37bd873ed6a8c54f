-- What an import is to do with each row: the product's wanted state, which fields differ, and the outcome. The rows
-- and the outcomes are those of import_products_v2. The products with these ids are those with the rows' SKUs. The function is
-- stable, so it reads with the snapshot of the calling statement.
create or replace function import_decided_v2(rows jsonb, ids bigint[])
returns table (
  n integer, sku text, id bigint, free integer, total integer, delta integer, name text, hold_seconds integer,
  max_hold_seconds integer, max_per_user integer, sale_starts_at timestamptz, sale_ends_at timestamptz,
  changes text[], to_cell integer, outcome text
)
language plpgsql
stable
as $$
#variable_conflict use_column
begin
  return query
  -- import: decide
  with there as materialized (
    select p.* from products p where p.id = any(ids)
  ), wanted as materialized (
    select r.n::integer as n, r.value ->> 'sku' as sku, p.id, p.stock::integer as free,
      case when r.value ? 'stock' then (r.value ->> 'stock')::integer else p.total end as total,
      case when r.value ? 'stock' then (r.value ->> 'stock')::integer - p.total else 0 end as delta,
      case when r.value ? 'name' then r.value ->> 'name' else p.name end as name,
      case when r.value ? 'hold_seconds' then (r.value ->> 'hold_seconds')::integer else p.hold_seconds end
        as hold_seconds,
      case when r.value ? 'max_hold_seconds' then (r.value ->> 'max_hold_seconds')::integer else p.max_hold_seconds
        end as max_hold_seconds,
      case when r.value ? 'max_per_user' then (r.value ->> 'max_per_user')::integer else p.max_per_user end
        as max_per_user,
      case when r.value ? 'sale_starts_at' then (r.value ->> 'sale_starts_at')::timestamptz else p.sale_starts_at end
        as sale_starts_at,
      case when r.value ? 'sale_ends_at' then (r.value ->> 'sale_ends_at')::timestamptz else p.sale_ends_at end
        as sale_ends_at
    from jsonb_array_elements(rows) with ordinality as r (value, n)
    left join there p on p.sku = r.value ->> 'sku'
  ), compared as materialized (
    select w.*, array_remove(array[
        case when w.name is distinct from p.name then 'name' end,
        case when w.delta <> 0 then 'stock' end,
        case when w.hold_seconds is distinct from p.hold_seconds then 'hold_seconds' end,
        case when w.max_hold_seconds is distinct from p.max_hold_seconds then 'max_hold_seconds' end,
        case when w.max_per_user is distinct from p.max_per_user then 'max_per_user' end,
        case when w.sale_starts_at is distinct from p.sale_starts_at then 'sale_starts_at' end,
        case when w.sale_ends_at is distinct from p.sale_ends_at then 'sale_ends_at' end
      ], null) as changes
    from wanted w
    left join there p on p.id = w.id
  ), moved as materialized (
    select m.sku, m.to_cell from moved_skus_v1(array(select w.sku from wanted w where w.id is null)) m
  )
  select c.n, c.sku, c.id, c.free, c.total, c.delta, c.name, c.hold_seconds, c.max_hold_seconds, c.max_per_user,
    c.sale_starts_at, c.sale_ends_at, c.changes, m.to_cell, case
      when m.to_cell is not null then 'moved'
      when c.name is null or c.total is null then 'incomplete'
      when c.sale_starts_at >= c.sale_ends_at then 'window'
      when c.id is null then 'created'
      when c.free + c.delta < 0 then 'insufficient_stock'
      when c.changes = '{}' then 'unchanged'
      else 'changed'
    end
  from compared c
  left join moved m on m.sku = c.sku;
end
$$;
