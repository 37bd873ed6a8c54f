-- Drops the whole schema with all its data, and the functions that `migrate` installed.
do $$
declare
  routine record;
begin
  for routine in
    select p.oid::regprocedure as signature
    from pg_proc p
    where p.pronamespace = current_schema()::regnamespace
      and p.proname in (select name from installed_functions)
  loop
    execute format('drop function %s cascade', routine.signature);
  end loop;
end
$$;
drop table processes;
drop table idempotency_keys;
drop table outbox_events;
drop table reservations;
drop table stock_adjustments;
drop table products;
drop domain units, positive_integer, positive_bigint, product_name, reservation_reference;
drop table installed_functions;
drop table schema_version;
