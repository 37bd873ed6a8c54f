-- Confirms all holds or none. The ids differ. Returns the rows of confirm_v2. With `reacquire`, each hold that has
-- expired is reacquired, in the order of the ids and up to the first that cannot be: for each of these follows a row with
-- the expired hold in `lost_id` and the results of reacquire_v2.
--
-- If one of the reservations cannot be confirmed, everything is rolled back, and the rows only say which ones could not.
create or replace function confirm_batch_v2(ids bigint[], reacquire boolean, events text[])
returns table (
  reservation reservations, changed boolean, lost_id bigint, outcome text, remaining integer, expired bigint,
  offered bigint
)
language plpgsql
as $$
#variable_conflict use_column
declare
  rows reservations[];
  changes boolean[];
  confirmed bigint;
  lost bigint;
  late record;
begin
  -- confirm batch: confirm
  select array_agg(c.reservation), array_agg(c.changed) into rows, changes from confirm_v2(ids, events) c;
  return query
  select rows[n.n], changes[n.n], null::bigint, null::text, null::integer, null::bigint, null::bigint
  from generate_subscripts(rows, 1) as n (n);
  -- confirm batch: how many are confirmed. A reservation may appear twice.
  confirmed := (select count(distinct r.id) from unnest(rows) as r where r.status = 'CONFIRMED');

  if reacquire then
    for lost in
      -- confirm batch: what has expired
      select r.id from unnest(rows) as r where r.status = 'EXPIRED' order by array_position(ids, r.id)
    loop
      -- All products are locked already, in id order.
      late := reacquire_v2(lost, events);
      return query
      select late.reservation, late.outcome is not distinct from 'reacquired', lost, late.outcome, late.remaining,
        late.expired, late.offered;
      exit when (late.reservation).status is distinct from 'CONFIRMED';
      confirmed := confirmed + 1;
    end loop;
  end if;
  if confirmed < cardinality(ids) then
    raise exception using errcode = 'FS001';
  end if;
exception when sqlstate 'FS001' then
  -- The changes are rolled back. The rows stay.
  null;
end
$$;
