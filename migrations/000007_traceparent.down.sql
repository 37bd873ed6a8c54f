alter table outbox_events drop column traceparent;
update schema_version set version = 6;
