-- Reserves all requests or none. Works as reserve_v2, but one refusal rolls back the others, which then have no
-- outcome.
create or replace function reserve_batch_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[],
  hold_seconds integer, events text[],
  out outcomes text[], out ids bigint[], out numbers integer[],
  out reserved_at timestamptz, out expired bigint
)
language plpgsql
as $$
#variable_conflict use_column
begin
  select r.outcomes, r.ids, r.numbers, r.reserved_at, r.expired
  into outcomes, ids, numbers, reserved_at, expired
  from reserve_v2(product_ids, user_ids, quantities, reference_texts, hold_seconds, events) r;
  if 'reserved' = any(outcomes) and 'reserved' <> any(array_remove(outcomes, 'offered')) then
    -- Rolls back to the start of this block. Variables keep their values.
    raise exception using errcode = 'FS001';
  end if;
exception when sqlstate 'FS001' then
  outcomes := array_replace(array_remove(outcomes, 'offered'), 'reserved', null);
  expired := 0;
end
$$;
