-- Frees idempotency keys that the calling transaction has claimed or stored. They are those of requests about something that
-- does not exist here: nothing was done for them, and a repeat is to be executed. The product may be on its way to another
-- cell, and come back.
create or replace function free_keys_v1(clients text[], keys text[])
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
  -- free keys
  delete from idempotency_keys k
  using unnest(clients, keys) as q (client, key)
  where k.client = q.client and k.key = q.key;
end
$$;
