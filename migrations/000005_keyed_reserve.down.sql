-- Drops the stored outcomes: a repeat of these requests would be executed again.
delete from idempotency_keys where outcome is not null;
alter table idempotency_keys drop constraint idempotency_keys_whole_answer;
alter table idempotency_keys add constraint idempotency_keys_whole_answer check ((status is null) = (body is null));
alter table idempotency_keys drop column number;
alter table idempotency_keys drop column reservation_id;
alter table idempotency_keys drop column outcome;
update schema_version set version = 4;
