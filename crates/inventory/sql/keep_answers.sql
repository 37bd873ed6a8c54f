-- Stores answers under idempotency keys that this transaction has claimed.
create or replace function keep_answers_v1(
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
end
$$;
