-- The answers that were kept for these keys of these clients. A key of one client comes for each of them that has it.
create or replace function kept_answers_v1(clients text[], keys text[])
returns setof idempotency_keys
language plpgsql
stable
-- One look-up a key, also with the statistics of a day when nobody sent any.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  -- kept answers
  select k.* from idempotency_keys k where k.client = any(clients) and k.key = any(keys);
end
$$;
