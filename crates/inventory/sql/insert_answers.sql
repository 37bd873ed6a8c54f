-- Stores answers under idempotency keys that were not claimed before. Fails when another transaction has claimed one
-- of them meanwhile. The caller must then roll back.
create or replace function insert_answers_v1(
  clients text[], keys text[], fingerprints bytea[], statuses smallint[], locations text[], bodies text[]
)
returns void
language plpgsql
-- The caller holds product locks. A transaction that has claimed one of the keys may be waiting for such a lock.
set lock_timeout = '50ms'
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- insert answers: in the order of the keys, so that two batches cannot wait for each other
  insert into idempotency_keys (client, key, fingerprint, status, location, body)
  select q.client, q.key, q.fingerprint, q.status, q.location, q.body
  from unnest(clients, keys, fingerprints, statuses, locations, bodies)
    as q (client, key, fingerprint, status, location, body)
  order by q.client collate "C", q.key collate "C";
end
$$;
