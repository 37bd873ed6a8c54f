-- Reserves for a batch of requests, as if they came one after the other in the given order.
-- Answers arrays in that order: each request's outcome, the hold's id (the new one, or the one that
-- stands in the way), and how many units were free where it was sold out; and for all of them the times
-- of this call's holds, and the number of holds that it expired. (Rows would cost a tenth more.)
create or replace function reserve_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], hold_seconds integer,
  out outcomes text[], out ids bigint[], out free integer[],
  out reserved_at timestamptz, out expires_at timestamptz, out expired bigint
)
language plpgsql
-- A lock that cannot be had is a definite "nothing was done", and the client may retry.
set lock_timeout = '5s'
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  t timestamptz;
  size integer := cardinality(product_ids);
  hold record;
  short record;
  swept record;
  request record;
  locked bigint[];
  stale bigint[] := '{}';
  lacking bigint;
  next_id regclass := pg_get_serial_sequence('reservations', 'id');
  current_product bigint;
  free_units integer;
  holders bigint[];
  holder_ids bigint[];
  granted bigint[] := '{}';
begin
  outcomes := array_fill(null::text, array[size]);
  ids := array_fill(null::bigint, array[size]);
  free := array_fill(null::integer, array[size]);
  expired := 0;

  -- reserve: lock the products, in id order
  locked := array(
    select p.id from products p where p.id = any(product_ids) order by p.id for no key update
  );
  t := clock_timestamp();
  reserved_at := t;
  expires_at := t + make_interval(secs => hold_seconds);

  -- From here on each statement has a snapshot that sees the last lock holder's work.

  -- reserve: the holds that these users have already
  for hold in
    select q.n, h.id, h.expires_at
    from unnest(product_ids, user_ids) with ordinality as q (product_id, user_id, n)
    cross join lateral (
      -- The limit keeps this one look-up a request, whatever the planner believes.
      select r.id, r.expires_at
      from reservations r
      where r.user_id = q.user_id and r.product_id = q.product_id and r.status = 'ACTIVE'
        and r.user_id > 0 -- the index's name tag
      limit 1
    ) h
  loop
    if hold.expires_at > t then
      ids[hold.n] := hold.id;
    else
      stale := stale || hold.id;
    end if;
  end loop;

  if stale <> '{}' then
    -- reserve: end the users' own stale holds
    with ended as (
      update reservations r
      set status = 'EXPIRED', expired_at = r.expires_at
      where r.id = any(stale) and r.status = 'ACTIVE' and r.expires_at <= t
      returning r.product_id, r.quantity
    ), given_back as (
      update products p
      set stock = p.stock + e.units, held = p.held - e.units
      from (select product_id, sum(quantity)::integer as units from ended group by 1) e
      where p.id = e.product_id
    )
    select count(*) into expired from ended;
  end if;

  -- reserve: reclaim where stock is short
  for short in
    select w.product_id, w.units - p.stock as lacking
    from (
      select q.product_id, sum(q.quantity) as units
      from unnest(product_ids, quantities, ids) as q (product_id, quantity, held_id)
      where q.held_id is null
      group by 1
    ) w
    join products p on p.id = w.product_id
    where p.stock < w.units and p.id = any(locked)
    order by 1
  loop
    lacking := short.lacking;
    -- A pass is bounded: 100,000 due holds in one would keep the row locked for a second.
    while lacking > 0 loop
      select * into swept from reclaim_v1(short.product_id, t, least(lacking, 1000)::integer);
      exit when swept.rows = 0;
      expired := expired + swept.rows;
      lacking := lacking - swept.units;
    end loop;
  end loop;

  -- reserve: decide, request by request
  for request in
    select q.n, q.product_id, q.user_id, q.quantity, q.held_id, p.stock,
      count(*) over (partition by q.product_id, q.user_id) > 1 as repeated
    from unnest(product_ids, user_ids, quantities, ids)
      with ordinality as q (product_id, user_id, quantity, held_id, n)
    -- A product that was created after the lock statement is not there yet.
    left join products p on p.id = q.product_id and p.id = any(locked)
    order by q.product_id, q.n
  loop
    if current_product is distinct from request.product_id then
      current_product := request.product_id;
      free_units := request.stock;
      holders := '{}';
      holder_ids := '{}';
    end if;

    if request.stock is null then
      outcomes[request.n] := 'product_not_found';
    elsif request.held_id is not null then
      outcomes[request.n] := 'already_reserved';
    elsif request.repeated and request.user_id = any(holders) then
      outcomes[request.n] := 'already_reserved';
      ids[request.n] := holder_ids[array_position(holders, request.user_id)];
    elsif request.quantity > free_units then
      outcomes[request.n] := 'sold_out';
      free[request.n] := free_units;
    else
      outcomes[request.n] := 'reserved';
      ids[request.n] := nextval(next_id);
      granted := granted || request.n;
      free_units := free_units - request.quantity;
      if request.repeated then
        holders := holders || request.user_id;
        holder_ids := holder_ids || ids[request.n];
      end if;
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

    -- reserve: write the holds
    insert into reservations (id, product_id, user_id, quantity, expires_at, created_at)
    overriding system value
    select ids[i], product_ids[i], user_ids[i], quantities[i], reserve_v1.expires_at, t
    from unnest(granted) as i;
  end if;
end
$$;
