-- The first entries of a product's waitlist that its free units reach, in the order of the line. The line is strict:
-- an entry that wants more units than are left stops it. `allowed` is false for entries that get nothing: the sale is
-- over, or the user may not have so many units any more. Such an entry takes no units, and those behind it move up.
create or replace function first_in_line_v1(product products, t timestamptz, max_rows integer)
returns table (entry waitlist_entries, allowed boolean)
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  -- waitlist: the first in line
  with line as materialized (
    select e as entry
    from waitlist_entries e
    where e.product_id = product.id and e.status = 'WAITING'
    order by e.product_id, e.id
    limit max_rows
  ), judged as (
    select l.entry, (product.sale_ends_at <= t) is not true
      and ((l.entry).quantity <= still_allowed_v1(product, (l.entry).user_id, t)) is not false as allowed
    from line l
  ), summed as (
    select j.entry, j.allowed,
      sum((j.entry).quantity) filter (where j.allowed) over (order by (j.entry).id) as units
    from judged j
  )
  select s.entry, s.allowed from summed s where coalesce(s.units, 0) <= product.stock order by (s.entry).id;
end
$$;
