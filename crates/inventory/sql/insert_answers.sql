-- Stores answers under new idempotency keys. Returns whether they are stored: they are not if one of the keys is known,
-- in use by another transaction, or given twice. The caller must then roll back. Answers with status 404 are not stored:
-- see free_keys.sql. Their keys must be new, too, because an earlier answer may be known.
create or replace function insert_answers_v3(
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
  if 404 = any(statuses) then
    perform free_keys_v1(array_agg(q.client), array_agg(q.key))
    from unnest(clients, keys, statuses) as q (client, key, status)
    where q.status = 404;
  end if;
  return true;
exception when unique_violation or lock_not_available then
  return false;
end
$$;
