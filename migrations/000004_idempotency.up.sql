-- Idempotency-Key: a request that comes again gets the answer that it got before.

-- A key is claimed with an insert and gets its answer with an update in the same transaction. Claims fill a
-- fifth of a page, so that the answers have room beside them, and no index learns of the update.
create table idempotency_keys (
  client text not null,
  key text not null constraint idempotency_keys_key_length check (char_length(key) between 1 and 255),
  fingerprint bytea not null
    constraint idempotency_keys_fingerprint_length check (octet_length(fingerprint) = 32),
  status smallint constraint idempotency_keys_status_kept check (status between 200 and 499),
  location text,
  body text,
  created_at timestamptz not null default clock_timestamp(),
  constraint idempotency_keys_pkey primary key (client, key),
  constraint idempotency_keys_whole_answer check ((status is null) = (body is null))
) with (fillfactor = 20);

comment on column idempotency_keys.client is 'whose key it is; empty: everybody''s';
comment on column idempotency_keys.fingerprint is 'SHA-256 of what was asked for';
comment on column idempotency_keys.status is 'of the answer; null only within the transaction that claimed the key';
comment on column idempotency_keys.location is 'the Location header of the answer';

-- The purge, oldest first.
create index idempotency_keys_by_created on idempotency_keys (created_at);

-- Claims keys for the transaction that calls it, each key given once. One row a key, in their order: without
-- an answer where the key is the caller's now, with the answer that was kept where there is one, and all null
-- where another transaction is at work under the key.
create or replace function claim_keys_v1(clients text[], keys text[], fingerprints bytea[])
returns table (n bigint, fingerprint bytea, status smallint, location text, body text)
language plpgsql
-- Whoever came first commits within milliseconds, or waits for somebody itself.
set lock_timeout = '1s'
-- One look-up a key, also with the statistics of a day when nobody sent any.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  request record;
begin
  begin
    -- claim keys: in their order, so that two batches cannot wait for each other
    insert into idempotency_keys (client, key, fingerprint)
    select q.client, q.key, q.fingerprint
    from unnest(clients, keys, fingerprints) as q (client, key, fingerprint)
    order by q.client, q.key
    on conflict (client, key) do nothing;
  exception when lock_not_available then
    -- Which key it was, nobody says: one after the other, so that the others need not go with it.
    perform set_config('lock_timeout', '20ms', true);
    for request in
      select q.client, q.key, q.fingerprint
      from unnest(clients, keys, fingerprints) as q (client, key, fingerprint)
      order by q.client, q.key
    loop
      begin
        -- claim keys: one
        insert into idempotency_keys (client, key, fingerprint)
        values (request.client, request.key, request.fingerprint)
        on conflict (client, key) do nothing;
      exception when lock_not_available then
        null;
      end;
    end loop;
  end;

  -- claim keys: what there is now, in a snapshot that sees what was committed during a wait
  return query
  select q.n, k.fingerprint, k.status, k.location, k.body
  from unnest(clients, keys) with ordinality as q (client, key, n)
  left join idempotency_keys k on k.client = q.client and k.key = q.key;
end
$$;

-- Keeps the answers to requests whose keys the transaction has claimed.
create or replace function keep_answers_v1(
  clients text[], keys text[], statuses smallint[], locations text[], bodies text[]
)
returns void
language plpgsql
-- One look-up a key, also with the statistics of a day when nobody sent any.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- keep answers
  update idempotency_keys k
  set status = q.status, location = q.location, body = q.body
  from unnest(clients, keys, statuses, locations, bodies) as q (client, key, status, location, body)
  where k.client = q.client and k.key = q.key;
end
$$;
