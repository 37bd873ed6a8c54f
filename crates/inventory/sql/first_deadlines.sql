-- Finds the products with holds that are due at t, the longest overdue first, and since when each has one. Also finds
-- the first deadline after t of all products (null: there is none). All in the snapshot of the calling statement.
create or replace function first_deadlines_v1(
  t timestamptz, out due bigint[], out due_since timestamptz[], out next_deadline timestamptz
)
language plpgsql
stable
as $$
#variable_conflict use_column
declare
  current bigint;
  deadline timestamptz;
begin
  -- due: the first deadline of each product, from product to product. An index on expires_at alone would cost each
  -- reserve about a microsecond.
  with recursive firsts (product_id, expires_at) as (
    (
      select r.product_id, r.expires_at
      from reservations_active r
      where r.quantity > 0 -- selects the index
      order by r.product_id, r.expires_at
      limit 1
    )
    union all
    select n.product_id, n.expires_at
    from firsts f
    cross join lateral (
      select r.product_id, r.expires_at
      from reservations_active r
      where r.product_id > f.product_id
        and r.quantity > 0 -- selects the index
      order by r.product_id, r.expires_at
      limit 1
    ) n
  )
  select array_agg(f.product_id order by f.expires_at) filter (where f.expires_at <= t),
    array_agg(f.expires_at order by f.expires_at) filter (where f.expires_at <= t),
    min(f.expires_at) filter (where f.expires_at > t)
  into due, due_since, next_deadline
  from firsts f;

  foreach current in array coalesce(due, '{}'::bigint[]) loop
    -- due: a product's first deadline that has not passed
    select r.expires_at into deadline
    from reservations_active r
    where r.product_id = current and r.expires_at > t
      and r.quantity > 0 -- selects the index
    order by r.product_id, r.expires_at
    limit 1;
    next_deadline := least(next_deadline, deadline);
  end loop;
end
$$;
