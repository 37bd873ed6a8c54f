-- Expires up to max_rows holds of one product that are due at t, longest due first, and frees their units. Returns
-- the number of holds. The caller must hold the product's lock and must have read t after locking.
create or replace function reclaim_v2(product_id bigint, t timestamptz, max_rows integer, events text[])
returns bigint
language plpgsql
as $$
#variable_conflict use_column
begin
  return expire_holds_v2(
    -- reclaim: find what is due
    array(
      select r.ctid
      from reservations_active r
      where r.product_id = reclaim_v2.product_id and r.expires_at <= t
        and r.quantity > 0 -- selects the index
      order by r.expires_at
      limit max_rows
    ),
    array[product_id], t, events
  );
end
$$;
