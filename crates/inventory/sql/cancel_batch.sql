-- Cancels all holds or none. The ids differ. Returns the rows of cancel_v2. If one of the reservations cannot be
-- canceled, everything is rolled back, and the rows only say which ones could not.
create or replace function cancel_batch_v1(ids bigint[], events text[])
returns table (reservation reservations, changed boolean)
language plpgsql
as $$
#variable_conflict use_column
declare
  rows reservations[];
  changes boolean[];
begin
  -- cancel batch: cancel
  select array_agg(c.reservation), array_agg(c.changed) into rows, changes from cancel_v2(ids, events) c;
  return query select rows[n.n], changes[n.n] from generate_subscripts(rows, 1) as n (n);
  if (
    -- cancel batch: how many are canceled. A reservation may appear twice.
    select count(distinct r.id) from unnest(rows) as r where r.status = 'CANCELED'
  ) < cardinality(ids) then
    raise exception using errcode = 'FS001';
  end if;
exception when sqlstate 'FS001' then
  -- The changes are rolled back. The rows stay.
  null;
end
$$;
