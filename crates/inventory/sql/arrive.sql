-- Unpacks a parcel of depart_v1: from now on the product is on sale in this cell. Ids stay. Only events get new ids, in
-- their old order, because those mean nothing to others.
create or replace function arrive_v1(parcel jsonb)
returns void
language plpgsql
as $$
#variable_conflict use_column
declare
  product products := jsonb_populate_record(null::products, parcel->'product');
begin
  -- arrive: the product
  insert into products overriding system value select (product).*;
  -- arrive: its initial units. products_initial_v1 has set them to those of now.
  update products p set initial = product.initial where p.id = product.id;
  -- arrive: the holds
  insert into reservations_active select * from jsonb_populate_recordset(null::reservations_active, parcel->'active');
  -- arrive: stock changes
  insert into stock_adjustments overriding system value
  select * from jsonb_populate_recordset(null::stock_adjustments, parcel->'adjustments');
  -- arrive: the line
  insert into waitlist_entries overriding system value
  select * from jsonb_populate_recordset(null::waitlist_entries, parcel->'entries');
  -- arrive: when the line is due
  insert into waitlists select * from jsonb_populate_recordset(null::waitlists, parcel->'lines');
  -- arrive: events to publish
  insert into outbox_events (
    event_id, event_type, payload, traceparent, created_at, attempts, next_attempt_at, last_error
  )
  select e.event_id, e.event_type, e.payload, e.traceparent, e.created_at, e.attempts, e.next_attempt_at, e.last_error
  from jsonb_populate_recordset(null::outbox_events, parcel->'events') e
  order by e.id;
end
$$;
