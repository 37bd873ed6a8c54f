-- The stored answers for these keys of these clients. Each client must be given once. The result is every pair of a
-- given client and a given key that exists.
create or replace function kept_answers_v1(clients text[], keys text[])
returns setof idempotency_keys
language plpgsql
stable
-- One index lookup per key, even when the statistics are from a day without keys.
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  this_client text;
begin
  -- One client at a time: for several clients at once PostgreSQL would read all keys of each client.
  foreach this_client in array clients loop
    return query
    -- kept answers
    select k.* from idempotency_keys k where k.key = any(keys) and k.client = this_client;
  end loop;
end
$$;
