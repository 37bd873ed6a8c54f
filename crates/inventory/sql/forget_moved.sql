-- Deletes up to max_rows ended reservations of a product that has moved to another cell, and remembers their ids for
-- answers. Returns how many were left. Does nothing while the product is here, or on its way.
create or replace function forget_moved_v1(product_id bigint, max_rows integer)
returns bigint
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  forgotten bigint;
begin
  -- forget moved: not while the product comes back
  perform from product_moves m where m.product_id = forget_moved_v1.product_id for update;
  -- forget moved: is the product elsewhere
  perform from products p where p.id = forget_moved_v1.product_id;
  if found or (moved_v1(forget_moved_v1.product_id, null, null)).is_finished is not true then
    return 0::bigint;
  end if;
  -- forget moved: delete and remember
  with gone as (
    delete from reservations_ended r
    where r.id in (
      select e.id from reservations_ended e
      where e.product_id = forget_moved_v1.product_id and e.created_at > '-infinity' -- selects the index
      order by e.id
      limit max_rows
    )
    returning r.id, r.product_id
  ), known as (
    insert into moved_reservations (id, product_id) select g.id, g.product_id from gone g on conflict (id) do nothing
  )
  select count(*) into forgotten from gone;
  return forgotten;
end
$$;
