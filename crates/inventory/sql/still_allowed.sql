-- The number of units of a product that a user may still have: the product's limit without what the user holds and has
-- bought. Null if the product has no limit. The caller must hold the product's lock and must have read t after locking.
create or replace function still_allowed_v1(product products, user_id bigint, t timestamptz)
returns bigint
language plpgsql
stable
as $$
#variable_conflict use_column
begin
  if product.max_per_user is null then
    return null;
  end if;
  return (
    -- still allowed
    select product.max_per_user - bought_v1(still_allowed_v1.user_id, product.id) - coalesce(sum(r.quantity), 0)
    from reservations_active r
    where r.user_id = still_allowed_v1.user_id and r.product_id = product.id and r.expires_at > t
      and r.user_id > 0 -- selects the index
  );
end
$$;
