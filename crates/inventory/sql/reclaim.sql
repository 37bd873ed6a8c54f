-- Ends up to max_rows holds of one product that are due at t, longest due first, and gives their units back; answers
-- how many holds. The caller holds the product's lock and has read t after it.
create or replace function reclaim_v2(product_id bigint, t timestamptz, max_rows integer, events text[])
returns bigint
language plpgsql
as $$
#variable_conflict use_column
begin
  return expire_holds_v1(
    -- reclaim: find what is due
    array(
      select r.id
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
