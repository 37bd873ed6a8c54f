-- The answers that were kept for these keys of these clients, each client given once. A key of one client comes for
-- each of them that has it.
create or replace function kept_answers_v1(clients text[], keys text[])
returns setof idempotency_keys
language plpgsql
stable
-- One look-up a key, also with the statistics of a day when nobody sent any.
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  this_client text;
begin
  -- Client by client: for several at once PostgreSQL would read all keys of each.
  foreach this_client in array clients loop
    return query
    -- kept answers
    select k.* from idempotency_keys k where k.key = any(keys) and k.client = this_client;
  end loop;
end
$$;
