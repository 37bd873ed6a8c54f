-- The ordinary case of reserve, for requests of one product. Locks the product; where it has enough units for all
-- requests and no rule that could refuse one, it serves each request that is the first of its user and finds no hold
-- of theirs. The others are left to reserve_one_by_one.
create or replace function reserve_one_product_v1(
  product_id bigint, user_ids bigint[], quantities integer[], reference_texts text[], hold_seconds integer,
  out ids bigint[], out made bigint[], out numbers integer[], out reserved_at timestamptz, out locked bigint[]
)
language plpgsql
as $$
#variable_conflict use_variable
declare
  product record;
  t timestamptz;
  hold interval;
  holders bigint[];
begin
  -- reserve: lock the product, the newest version first (see lock_products.sql)
  select p.ctid as stored_at, p.id, p.stock, p.hold_seconds, p.max_per_user, p.sale_starts_at, p.sale_ends_at
  into product
  from products p
  where p.id >= product_id and p.id <= product_id
  order by p.id desc
  limit 1
  for no key update;
  t := clock_timestamp();
  reserved_at := t;
  made := '{}';
  numbers := '{}';
  if product.id is null then
    locked := '{}';
    return;
  end if;
  locked := array[product.id];
  if product.max_per_user is not null or product.sale_starts_at > t or product.sale_ends_at <= t
    or product.stock < (select sum(q.quantity) from unnest(quantities) as q (quantity))
  then
    return;
  end if;

  hold := coalesce(product.hold_seconds, hold_seconds) * interval '1 second';
  if product.hold_seconds is not null then
    numbers := array_fill(product.hold_seconds, array[cardinality(user_ids)]);
  end if;
  -- reserve: which users hold it
  holders := array(
    select h.user_id
    from reservations_active h
    where h.user_id = any(user_ids) and h.product_id = reserve_one_product_v1.product_id
      and h.user_id > 0 -- selects the index
  );

  -- reserve: draw the ids
  ids := array(select nextval('reservations_id_seq') from generate_series(1, cardinality(user_ids)));

  -- reserve: write the holds, and take the stock
  with made as (
    insert into reservations_active (id, product_id, user_id, quantity, reference, expires_at, created_at)
    select q.id, product_id, q.user_id, q.quantity, q.reference, t + hold, t
    from (
      select q.*, row_number() over (partition by q.user_id order by q.n) as nth
      from unnest(ids, user_ids, quantities, reference_texts)
        with ordinality as q (id, user_id, quantity, reference, n)
    ) q
    where q.nth = 1 and q.user_id <> all(holders)
    returning id, quantity
  ), taken as (
    update products p
    set stock = p.stock - m.units, held = p.held + m.units
    from (select sum(m.quantity)::integer as units from made m) m
    where p.ctid = product.stored_at and m.units > 0
  )
  select coalesce(array_agg(m.id), '{}') into made from made m;
end
$$;
