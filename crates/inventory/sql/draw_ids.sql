-- Draws ids for new holds of one product: for the first request of each user who holds nothing of it. Also returns
-- the units of these requests. `holders` are the users who hold the product.
create or replace function draw_ids_v1(
  user_ids bigint[], quantities integer[], holders bigint[], out ids bigint[], out units bigint
)
language plpgsql
as $$
#variable_conflict use_column
begin
  -- reserve: draw the ids
  select array_agg(q.id order by q.n), coalesce(sum(q.quantity) filter (where q.id is not null), 0)
  into ids, units
  from (
    select q.n, q.quantity,
      case when q.user_id not in (select u.id from unnest(holders) as u (id)) and q.nth = 1
        then nextval('reservations_id_seq')
      end as id
    from (
      select q.*, row_number() over (partition by q.user_id order by q.n) as nth
      from unnest(user_ids, quantities) with ordinality as q (user_id, quantity, n)
      order by q.n
    ) q
  ) q;
end
$$;
