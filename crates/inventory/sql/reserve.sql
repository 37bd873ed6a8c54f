-- Reserves for a batch of requests, as if they came one after the other in the given order.
-- Answers one row a request: its position n, its outcome, the hold's id (the new one, or the one that
-- stands in the way), how many units were free where it was sold out, and on every row the times of
-- this call's holds and the number of holds that it expired.
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
  size integer := cardinality(product_ids);
  hold record;
  short record;
  swept record;
  request record;
  locked bigint[];
  stale bigint[] := '{}';
  held_ids bigint[] := array_fill(null::bigint, array[size]);
  expired_total bigint := 0;
  lacking bigint;
  ids regclass := pg_get_serial_sequence('reservations', 'id');
  current_product bigint;
  free_units integer;
  holders bigint[];
  holder_ids bigint[];
  granted bigint[] := '{}';
  outcomes text[] := array_fill(null::text, array[size]);
  free_then integer[] := array_fill(null::integer, array[size]);
begin
  -- reserve: lock the products, in id order
  locked := array(
    select p.id from products p where p.id = any(product_ids) order by p.id for no key update
  );
  t := clock_timestamp();

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
      held_ids[hold.n] := hold.id;
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
    select count(*) into expired_total from ended;
  end if;

  -- reserve: reclaim where stock is short
  for short in
    select w.product_id, w.units - p.stock as lacking
    from (
      select q.product_id, sum(q.quantity) as units
      from unnest(product_ids, quantities, held_ids) as q (product_id, quantity, held_id)
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
      expired_total := expired_total + swept.rows;
      lacking := lacking - swept.units;
    end loop;
  end loop;

  -- reserve: decide, request by request
  for request in
    select q.n, q.product_id, q.user_id, q.quantity, q.held_id, p.stock,
      count(*) over (partition by q.product_id, q.user_id) > 1 as repeated
    from unnest(product_ids, user_ids, quantities, held_ids)
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
      held_ids[request.n] := holder_ids[array_position(holders, request.user_id)];
    elsif request.quantity > free_units then
      outcomes[request.n] := 'sold_out';
      free_then[request.n] := free_units;
    else
      outcomes[request.n] := 'reserved';
      held_ids[request.n] := nextval(ids);
      granted := granted || request.n;
      free_units := free_units - request.quantity;
      if request.repeated then
        holders := holders || request.user_id;
        holder_ids := holder_ids || held_ids[request.n];
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
    select held_ids[i], product_ids[i], user_ids[i], quantities[i],
      t + make_interval(secs => hold_seconds), t
    from unnest(granted) as i;
  end if;

  -- reserve: answer
  return query
  select q.n, q.outcome, q.id, t, t + make_interval(secs => hold_seconds), q.free, expired_total
  from unnest(outcomes, held_ids, free_then) with ordinality as q (outcome, id, free, n);
end
$$;
