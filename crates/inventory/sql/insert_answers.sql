-- Stores answers under new idempotency keys. Returns whether they are stored: they are not if one of the keys is known,
-- in use by another transaction, or given twice. The caller must then roll back.
create or replace function insert_answers_v2(
  clients text[], keys text[], fingerprints bytea[], statuses smallint[], locations text[], bodies text[]
)
returns boolean
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
  return true;
exception when unique_violation or lock_not_available then
  return false;
end
$$;
