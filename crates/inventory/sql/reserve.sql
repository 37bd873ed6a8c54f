-- Reserves for a batch of requests, as if they came one after the other in the given order.
-- Answers one row a request: its position n, its outcome, the hold's id (the new one, or the one that
-- stands in the way), the hold's times, and on every row the number of holds that this call expired.
create or replace function reserve_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], hold_seconds integer
)
returns table (
  n bigint, outcome text, reservation_id bigint, created_at timestamptz, expires_at timestamptz,
  free integer, expired bigint
)
language plpgsql
-- A lock that cannot be had is a definite "nothing was done", and the client may retry.
set lock_timeout = '5s'
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  t timestamptz;
  request record;
  swept record;
  expired_total bigint := 0;
  lacking bigint;
  current_product bigint;
  free_units integer;
  holders bigint[] := '{}';
  granted bigint[] := '{}';
  outcomes text[] := array_fill(null::text, array[cardinality(product_ids)]);
  free_then integer[] := array_fill(null::integer, array[cardinality(product_ids)]);
begin
  -- reserve: lock the products, in id order
  perform from products p where p.id = any(product_ids) order by p.id for no key update;
  t := clock_timestamp();

  -- From here on each statement has a snapshot that sees the last lock holder's work.

  -- reserve: the products with stale holds of these users, or short of stock
  for request in
    select w.product_id, w.stale, w.wanted - p.stock as lacking
    from (
      select q.product_id, sum(q.quantity) as wanted,
        array_agg(h.id) filter (where h.id is not null) as stale
      from unnest(product_ids, user_ids, quantities) as q (product_id, user_id, quantity)
      left join lateral (
        select r.id
        from reservations r
        where r.user_id = q.user_id and r.product_id = q.product_id and r.status = 'ACTIVE'
          and r.expires_at <= t
        limit 1
      ) h on true
      group by q.product_id
    ) w
    join products p on p.id = w.product_id
    where w.stale is not null or p.stock < w.wanted
    order by w.product_id
  loop
    lacking := request.lacking;

    if request.stale is not null then
      -- reserve: end the requesters' own stale holds
      with ended as (
        update reservations r
        set status = 'EXPIRED', expired_at = r.expires_at
        where r.id = any(request.stale) and r.status = 'ACTIVE' and r.expires_at <= t
        returning r.quantity
      ), freed as (
        select count(*) as rows, coalesce(sum(e.quantity), 0)::integer as units from ended e
      ), given_back as (
        update products p
        set stock = p.stock + f.units, held = p.held - f.units
        from freed f
        where p.id = request.product_id
      )
      select * into swept from freed;
      expired_total := expired_total + swept.rows;
      lacking := lacking - swept.units;
    end if;

    -- A pass is bounded: 100,000 due holds in one would keep the row locked for a second.
    while lacking > 0 loop
      select * into swept from reclaim_v1(request.product_id, t, least(lacking, 1000)::integer);
      exit when swept.rows = 0;
      expired_total := expired_total + swept.rows;
      lacking := lacking - swept.units;
    end loop;
  end loop;

  -- reserve: decide, request by request
  for request in
    select q.n, q.product_id, q.user_id, q.quantity, p.stock, h.id as held_id,
      row_number() over (partition by q.product_id, q.user_id order by q.n) > 1 as repeated
    from unnest(product_ids, user_ids, quantities)
      with ordinality as q (product_id, user_id, quantity, n)
    left join products p on p.id = q.product_id
    left join lateral (
      select r.id
      from reservations r
      where r.user_id = q.user_id and r.product_id = q.product_id and r.status = 'ACTIVE'
      limit 1
    ) h on true
    order by q.product_id, q.n
  loop
    if current_product is distinct from request.product_id then
      current_product := request.product_id;
      free_units := request.stock;
      holders := '{}';
    end if;

    if request.stock is null then
      outcomes[request.n] := 'product_not_found';
    elsif request.held_id is not null or (request.repeated and request.user_id = any(holders)) then
      outcomes[request.n] := 'already_reserved';
    elsif request.quantity > free_units then
      outcomes[request.n] := 'sold_out';
      free_then[request.n] := free_units;
    else
      outcomes[request.n] := 'reserved';
      free_units := free_units - request.quantity;
      holders := holders || request.user_id;
      granted := granted || request.n;
    end if;
  end loop;

  if granted <> '{}' then
    -- reserve: take the stock, one update a product
    update products p
    set stock = p.stock - g.units, held = p.held + g.units
    from (
      select product_ids[i] as product_id, sum(quantities[i])::integer as units
      from unnest(granted) as i
      group by 1
    ) g
    where p.id = g.product_id;
  end if;

  -- reserve: write the holds and answer
  return query
  with made as (
    insert into reservations as r (product_id, user_id, quantity, expires_at, created_at)
    select product_ids[i], user_ids[i], quantities[i], t + make_interval(secs => hold_seconds), t
    from unnest(granted) as i
    returning r.id, r.product_id, r.user_id, r.created_at, r.expires_at
  )
  select q.n, q.outcome, coalesce(m.id, h.id), m.created_at, m.expires_at, q.free, expired_total
  from unnest(product_ids, user_ids, outcomes, free_then)
    with ordinality as q (product_id, user_id, outcome, free, n)
  left join made m
    on m.product_id = q.product_id and m.user_id = q.user_id
    and q.outcome in ('reserved', 'already_reserved')
  left join lateral (
    select r.id
    from reservations r
    where q.outcome = 'already_reserved' and m.id is null
      and r.user_id = q.user_id and r.product_id = q.product_id and r.status = 'ACTIVE'
    limit 1
  ) h on true;
end
$$;
