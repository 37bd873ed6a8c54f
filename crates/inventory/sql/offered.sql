-- The number of holds of these products that were ever offered to their waitlists.
create or replace function offered_v1(product_ids bigint[])
returns bigint
language plpgsql
stable
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return (
    -- offered
    select coalesce(sum(w.offered), 0)::bigint from waitlists w where w.product_id = any(product_ids)
  );
end
$$;
