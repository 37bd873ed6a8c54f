-- Fails where a reservation was returned: an older version could not tell what that is.
drop function expire_v2(bigint, integer, text[]);
drop function adjust_stock_v1(bigint, integer, text, text[]);
drop function reacquire_v1(bigint, text[]);
drop function return_v1(bigint[], text[]);
drop function extend_v1(bigint[], integer[], integer);
drop function cancel_v2(bigint[], text[]);
drop function confirm_v2(bigint[], text[]);
drop function reserve_together_v1(bigint[], bigint[], integer[], text[], integer, text[]);
drop function reserve_v2(bigint[], bigint[], integer[], text[], integer, text[]);
drop function reclaim_v2(bigint, timestamptz, integer, text[]);
drop function standing_v1(bigint[], bigint[], timestamptz, bigint);
drop function write_events_v1(text, bigint[], timestamptz, text[]);
drop function event_payload_v1(
  text, bigint, bigint, bigint, integer, text, timestamptz, timestamptz, timestamptz, timestamptz, timestamptz, timestamptz
);
drop type standing_v1;
alter table outbox_events add constraint outbox_events_event_id_key unique (event_id);
drop index reservations_bought;
alter table reservations
  drop constraint reservations_returned,
  drop constraint reservations_status_known,
  add constraint reservations_status_known check (status in ('ACTIVE', 'CONFIRMED', 'CANCELED', 'EXPIRED')),
  drop column reference,
  drop column reacquired_from,
  drop column returned_at;
drop table stock_adjustments;
drop trigger products_initial on products;
drop function products_initial_v1();
alter table products
  drop column initial,
  drop column hold_seconds,
  drop column max_hold_seconds,
  drop column max_per_user,
  drop column sale_starts_at,
  drop column sale_ends_at;
