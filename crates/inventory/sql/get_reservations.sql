-- The given reservations as they are stored. The settings force one index lookup per partition, even when the
-- statistics date from the minute before the sale.
create or replace function get_reservations_v1(ids bigint[])
returns setof reservations
language plpgsql
stable
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  -- reservation: get
  select r.* from reservations r where r.id = any(ids);
end
$$;
