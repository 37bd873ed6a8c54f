-- A reserve with an idempotency key stores what was decided, and no rendered answer, so that one call can claim the
-- key, reserve, and store. See crates/inventory/sql/reserve_once.sql.
alter table idempotency_keys add column outcome text;
alter table idempotency_keys add column reservation_id bigint;
alter table idempotency_keys add column number integer;
comment on column idempotency_keys.outcome is 'of a reserve, as reserve_v2 returns it; the API renders its answer again';
comment on column idempotency_keys.reservation_id is 'of a reserve: the new hold, or the hold that blocked the request';
comment on column idempotency_keys.number is 'of a reserve: the seconds of the hold, or the number in the refusal';

alter table idempotency_keys drop constraint idempotency_keys_whole_answer;
-- Not valid: it holds for the existing rows, and a check of all of them would keep the table locked.
alter table idempotency_keys add constraint idempotency_keys_whole_answer
  check (num_nonnulls(body, outcome) = num_nonnulls(status)) not valid;

update schema_version set version = 5;
