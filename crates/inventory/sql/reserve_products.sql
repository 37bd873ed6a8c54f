-- The fast path of reserve for requests of several products. Works as reserve_one_product, but with one set of
-- statements for all products. Products that are sold out are neither locked nor served.
create or replace function reserve_products_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[], hold_seconds integer,
  sold_out bigint[], wait boolean,
  out busy boolean, out ids bigint[], out numbers integer[], out reserved_at timestamptz, out locked bigint[]
)
language plpgsql
as $$
#variable_conflict use_column
declare
  t timestamptz;
  rows products[];
  holds reservations_active[];
begin
  -- reserve: lock the products, in id order
  select coalesce(array_agg(p.product), '{}'), coalesce(array_agg((p.product).id), '{}') into rows, locked
  from (
    select p as product
    from products p
    where p.id = any(product_ids) and p.id <> all(sold_out)
    order by p.id
    for no key update skip locked
  ) p;
  busy := not wait and cardinality(locked) < (
    select count(*) from products p where p.id = any(product_ids) and p.id <> all(sold_out)
  );
  if busy then
    return;
  end if;
  t := clock_timestamp();
  reserved_at := t;

  -- reserve: what the users hold
  holds := array(
    select h
    from reservations_active h
    where h.user_id = any(user_ids)
      and h.product_id between (select min(q.id) from unnest(product_ids) as q (id))
        and (select max(q.id) from unnest(product_ids) as q (id))
      and h.user_id > 0 -- selects the index
  );

  -- reserve: draw the ids of those that are served
  select array_agg(case when q.served then nextval('reservations_id_seq') end order by q.n),
    array_agg(q.hold_seconds order by q.n)
  into ids, numbers
  from (
    select q.n, p.hold_seconds::integer as hold_seconds,
      p.stock >= sum(q.quantity) over (partition by q.product_id)
        and p.max_per_user is null and p.waiting = 0
        and (p.sale_starts_at <= t) is not false and (p.sale_ends_at > t) is not false
        and row_number() over (partition by q.product_id, q.user_id order by q.n) = 1
        and h.id is null as served
    from unnest(product_ids, user_ids, quantities) with ordinality as q (product_id, user_id, quantity, n)
    left join unnest(rows) p on p.id = q.product_id
    left join unnest(holds) h on h.user_id = q.user_id and h.product_id = q.product_id
  ) q;

  perform place_holds_v1(
    ids, product_ids, user_ids, quantities, reference_texts, numbers, hold_seconds, locked, t
  );
end
$$;
