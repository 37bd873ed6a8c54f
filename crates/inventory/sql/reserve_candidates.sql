-- The facts that decide about reserve requests, in request order within each product: the product's free units and
-- rules, the user's own hold, whether the user appears more than once, and how many more units the user may have
-- (null: unlimited). The function is stable, so it reads with the snapshot of the calling statement. That statement
-- starts after the lock, so it sees the changes of the previous lock holder. `closed` is the refusal for all: the sale
-- is not on, or others wait for units.
create or replace function reserve_candidates_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], locked bigint[], t timestamptz
)
returns table (
  n bigint, product_id bigint, user_id bigint, quantity integer, stock integer, hold_seconds integer,
  closed text, held_id bigint, held_until timestamptz, repeated boolean, allowed bigint
)
language plpgsql
stable
as $$
#variable_conflict use_column
begin
  return query
  -- reserve: what decides
  with ours as materialized (
    -- A product that was created after the lock statement is not locked, so it does not count.
    select p.* from products p where p.id = any(locked)
  ), held as materialized (
    select h.id, h.user_id, h.product_id, h.expires_at
    from reservations_active h
    where h.user_id = any(user_ids)
      and h.product_id between (select min(q.id) from unnest(product_ids) as q (id))
        and (select max(q.id) from unnest(product_ids) as q (id))
      and h.user_id > 0 -- selects the index
  )
  select q.n, q.product_id, q.user_id, q.quantity, p.stock::integer, p.hold_seconds::integer,
    case
      when p.sale_starts_at > t then 'sale_not_open'
      when p.sale_ends_at <= t then 'sale_closed'
      when p.waiting > 0 then 'sold_out'
    end,
    h.id, h.expires_at,
    count(*) over (partition by q.product_id, q.user_id) > 1,
    case when p.max_per_user is not null then p.max_per_user - bought_v1(q.user_id, q.product_id) end
  from unnest(product_ids, user_ids, quantities) with ordinality as q (product_id, user_id, quantity, n)
  left join ours p on p.id = q.product_id
  left join held h on h.user_id = q.user_id and h.product_id = q.product_id
  order by q.product_id, q.n;
end
$$;
