-- The part of depart for everything but the product and its reservations: stock changes, the waitlist, and the events
-- that no relay has sent. The caller must hold the product's lock.
--
-- Events that are sent and not yet confirmed stay, and so do dead letters: this cell's relay publishes them.
create or replace function depart_rest_v1(product_id bigint)
returns jsonb
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  adjustments jsonb;
  entries jsonb;
  lines jsonb;
  events jsonb;
begin
  -- depart: stock changes
  with gone as (
    delete from stock_adjustments a where a.product_id = depart_rest_v1.product_id returning a.*
  )
  select coalesce(jsonb_agg(to_jsonb(g)), '[]') into adjustments from gone g;
  -- depart: the line
  with gone as (
    delete from waitlist_entries w where w.product_id = depart_rest_v1.product_id returning w.*
  )
  select coalesce(jsonb_agg(to_jsonb(g)), '[]') into entries from gone g;
  -- depart: when the line is due
  with gone as (
    delete from waitlists w where w.product_id = depart_rest_v1.product_id returning w.*
  )
  select coalesce(jsonb_agg(to_jsonb(g)), '[]') into lines from gone g;
  -- depart: events to publish. A relay that has locked some of them ends its transaction within 2 s.
  with gone as (
    delete from outbox_events e
    where e.published_at is null and e.dead_at is null
      and e.payload->>'product_id' = depart_rest_v1.product_id::text
      and e.last_error is distinct from 'sent, but not confirmed'
    returning e.*
  )
  select coalesce(jsonb_agg(to_jsonb(g) order by g.id), '[]') into events from gone g;
  return jsonb_build_object('adjustments', adjustments, 'entries', entries, 'lines', lines, 'events', events);
end
$$;
