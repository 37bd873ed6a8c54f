-- The number of units of a product that a user has bought.
create or replace function bought_v1(user_id bigint, product_id bigint)
returns bigint
language plpgsql
stable
as $$
#variable_conflict use_column
begin
  return (
    -- bought
    select coalesce(sum(r.quantity), 0)
    from reservations_ended r
    where r.user_id = bought_v1.user_id and r.product_id = bought_v1.product_id and r.status = 'CONFIRMED'
      and r.quantity > 0 -- selects the index
  );
end
$$;
