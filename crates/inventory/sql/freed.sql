-- The rows that cancel_v2 and return_v1 return behind the reservations that they changed: the unchanged ones of `known`,
-- if there are any, and the holds that users who wait for the freed units are offered. The caller must hold the locks of
-- these lines and must have read t after locking.
create or replace function freed_v1(known bigint[], unchanged boolean, lines bigint[], t timestamptz, events text[])
returns table (reservation reservations, changed boolean)
language plpgsql
as $$
#variable_conflict use_column
declare
  offered bigint[];
begin
  if unchanged then
    return query
    -- freed: the unchanged ones
    select as_of_v1(r, t), false from reservations r where r.id = any(known);
  end if;
  if lines <> '{}' then
    offered := offer_each_v1(lines, t, events);
    return query
    -- freed: what was offered
    select r, false from reservations r where r.id = any(offered);
  end if;
end
$$;
