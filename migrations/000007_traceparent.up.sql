-- The trace of the request that caused an event, for the header `traceparent` of its message. Only events of sampled requests
-- have one. See crates/inventory/sql/trace_events.sql.
alter table outbox_events add column traceparent text;
comment on column outbox_events.traceparent is 'W3C Trace Context of the request that caused the event, if the request was sampled';

update schema_version set version = 7;
