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
    order by q.client collate "C", q.key collate "C"
    on conflict (client, key) do nothing;
  exception when lock_not_available then
    -- Which key it was, nobody says: one after the other, so that the others need not go with it.
    perform set_config('lock_timeout', '20ms', true);
    for request in
      select q.client, q.key, q.fingerprint
      from unnest(clients, keys, fingerprints) as q (client, key, fingerprint)
      order by q.client collate "C", q.key collate "C"
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
