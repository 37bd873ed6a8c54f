drop function keep_answers_v1(text[], text[], smallint[], text[], text[]);
drop function claim_keys_v1(text[], text[], bytea[]);
drop table idempotency_keys;
