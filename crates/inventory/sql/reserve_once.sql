-- Reserves for requests with idempotency keys, and stores each outcome under its key. Works as reserve_v3 for keys
-- that are new. If a key is known, in use by another transaction, or given twice, `busy` is true and nothing was done.
-- 'product_not_found' is not stored: see free_keys.sql.
create or replace function reserve_once_v3(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[],
  hold_seconds integer, events text[], clients text[], keys text[], fingerprints bytea[],
  out busy boolean, out outcomes text[], out ids bigint[], out numbers integer[],
  out reserved_at timestamptz, out expired bigint, out waited integer
)
language plpgsql
-- For the keys only: reserve_v3 has its own. Who has claimed one of the keys may wait for a product that is locked here.
set lock_timeout = '50ms'
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  done record;
begin
  done := reserve_v3(product_ids, user_ids, quantities, reference_texts, hold_seconds, events);
  busy := false;
  outcomes := done.outcomes;
  ids := done.ids;
  numbers := done.numbers;
  reserved_at := done.reserved_at;
  expired := done.expired;
  waited := done.waited;

  -- reserve: store the outcomes, in the order of the keys, so that two batches cannot wait for each other
  insert into idempotency_keys (
    client, key, fingerprint, status, outcome, reservation_id, number, created_at
  )
  select q.client, q.key, q.fingerprint,
    -- The purge distinguishes only refusals (400 and above) and others.
    case when q.outcome <> 'reserved' then 409 else 201 end,
    coalesce(q.outcome, 'reserved'), q.id,
    case when q.outcome <> 'reserved' then q.number else coalesce(q.number, hold_seconds) end,
    coalesce(reserved_at, clock_timestamp())
  from unnest(clients, keys, fingerprints, outcomes[1:cardinality(keys)], ids, numbers)
    as q (client, key, fingerprint, outcome, id, number)
  order by q.client collate "C", q.key collate "C";
  if 'product_not_found' = any(outcomes) then
    perform free_keys_v1(array_agg(q.client), array_agg(q.key))
    from unnest(clients, keys, outcomes[1:cardinality(keys)]) as q (client, key, outcome)
    where q.outcome = 'product_not_found';
  end if;
exception when unique_violation or lock_not_available then
  -- Rolls back to the start of this block. Variables keep their values: without `busy`, reserve_v3 has failed.
  if busy is null then
    raise;
  end if;
  busy := true;
end
$$;
