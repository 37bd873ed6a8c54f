-- The ordinary case of reserve, for requests of several products: as reserve_one_product, product by product, but in
-- the same few statements for all. Products that are sold out are neither locked nor served.
create or replace function reserve_products_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[], hold_seconds integer,
  sold_out bigint[],
  out ids bigint[], out made bigint[], out numbers integer[], out reserved_at timestamptz, out locked bigint[]
)
language plpgsql
as $$
#variable_conflict use_column
declare
  rows products[];
  t timestamptz;
  held reservations_active[];
begin
  -- reserve: lock the products, in id order
  select coalesce(array_agg(p), '{}'), coalesce(array_agg(p.id), '{}') into rows, locked
  from (
    select p.*
    from products p
    where p.id = any(product_ids) and p.id <> all(sold_out)
    order by p.id
    for no key update
  ) p;
  t := clock_timestamp();
  reserved_at := t;
  numbers := '{}';

  -- reserve: what the users hold
  held := array(
    select h
    from reservations_active h
    where h.user_id = any(user_ids)
      and h.user_id > 0 -- selects the index
  );

  -- reserve: draw the ids
  ids := array(select nextval('reservations_id_seq') from generate_series(1, cardinality(product_ids)));

  -- reserve: write the holds, and take the stock
  with ordinary as (
    select p.id, coalesce(p.hold_seconds, reserve_products_v1.hold_seconds) * interval '1 second' as hold
    from unnest(rows) p
    join (
      select q.product_id, sum(q.quantity) as units
      from unnest(product_ids, quantities) as q (product_id, quantity)
      group by 1
    ) q on q.product_id = p.id
    where p.stock >= q.units and p.max_per_user is null
      and (p.sale_starts_at <= t) is not false and (p.sale_ends_at > t) is not false
  ), made as (
    insert into reservations_active (id, product_id, user_id, quantity, reference, expires_at, created_at)
    select q.id, q.product_id, q.user_id, q.quantity, q.reference, t + p.hold, t
    from (
      select q.*, row_number() over (partition by q.product_id, q.user_id order by q.n) as nth
      from unnest(ids, product_ids, user_ids, quantities, reference_texts)
        with ordinality as q (id, product_id, user_id, quantity, reference, n)
    ) q
    join ordinary p on p.id = q.product_id
    left join unnest(held) h on h.user_id = q.user_id and h.product_id = q.product_id
    where q.nth = 1 and h.id is null
    returning id, product_id, quantity
  ), taken as (
    update products p
    set stock = p.stock - m.units, held = p.held + m.units
    from (select m.product_id, sum(m.quantity)::integer as units from made m group by 1) m
    where p.id = any(locked) and p.id = m.product_id
  )
  select coalesce(array_agg(m.id), '{}') into made from made m;

  if exists (select from unnest(rows) p where p.hold_seconds is not null) then
    numbers := array(
      select p.hold_seconds
      from unnest(product_ids) with ordinality as q (product_id, n)
      left join unnest(rows) p on p.id = q.product_id
      order by q.n
    );
  end if;
end
$$;
