-- Claims idempotency keys for the calling transaction. Each key must be given once. Returns one row per key, in the
-- given order. The row has no status when the caller now owns the key, and the stored answer when there is one: a
-- body, or the outcome of a reserve. All columns are null when another transaction is using the key.
create or replace function claim_keys_v2(clients text[], keys text[], fingerprints bytea[])
returns table (
  n bigint, fingerprint bytea, status smallint, location text, body text,
  outcome text, reservation_id bigint, number integer, created_at timestamptz
)
language plpgsql
-- The other transaction usually commits within milliseconds, unless it waits for a lock itself.
set lock_timeout = '1s'
-- One index lookup per key, even when the statistics are from a day without keys.
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
    -- The error does not name the locked key. Claim the keys one by one, so that the free ones are not refused with
    -- it.
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

  -- claim keys: read them, in a snapshot after any wait
  return query
  select q.n, k.fingerprint, k.status, k.location, k.body, k.outcome, k.reservation_id, k.number, k.created_at
  from unnest(clients, keys) with ordinality as q (client, key, n)
  left join idempotency_keys k on k.client = q.client and k.key = q.key;
end
$$;
