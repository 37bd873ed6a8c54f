-- Stores answers under idempotency keys that this transaction has claimed. Those with status 404 are not stored, and their
-- keys are free again: see free_keys.sql.
create or replace function keep_answers_v2(
  clients text[], keys text[], statuses smallint[], locations text[], bodies text[]
)
returns void
language plpgsql
-- One index lookup per key, even when the statistics are from a day without keys.
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
  if 404 = any(statuses) then
    perform free_keys_v1(array_agg(q.client), array_agg(q.key))
    from unnest(clients, keys, statuses) as q (client, key, status)
    where q.status = 404;
  end if;
end
$$;
