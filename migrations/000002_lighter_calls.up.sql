-- The functions again, under their names: what they take and answer is the same.
-- reserve_v1 refuses without a lock where nothing is free, and asks less of PostgreSQL for each call; and all
-- of them make their plans once a connection, where a lone call was planned anew each time. due_v1 is new: a
-- query of the expirer's, which as a function can do without the planner's belief.

-- Ends up to max_rows holds of one product that are due at t, longest due first, and gives their
-- units back. The caller holds the product's lock and has read t after it: without the lock two
-- callers could return the same unit.
create or replace function reclaim_v1(
  product_id bigint, t timestamptz, max_rows integer, out rows integer, out units integer
)
language plpgsql
-- The statistics may still describe the minute before the sale opened, when nothing was held.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  due bigint[];
begin
  -- reclaim: find what is due
  due := array(
    select r.id
    from reservations r
    where r.product_id = reclaim_v1.product_id and r.status = 'ACTIVE' and r.expires_at <= t
      and r.quantity > 0 -- the index's name tag
    order by r.expires_at
    limit max_rows
  );

  -- reclaim: end these holds
  with ended as (
    update reservations r
    set status = 'EXPIRED', expired_at = r.expires_at
    where r.id = any(due) and r.status = 'ACTIVE' and r.expires_at <= t
    returning r.quantity
  )
  select count(*), coalesce(sum(e.quantity), 0) into rows, units from ended e;

  if rows > 0 then
    -- reclaim: give the units back
    update products p
    set stock = p.stock + units, held = p.held - units
    where p.id = reclaim_v1.product_id;
  end if;
end
$$;

-- Reserves for a batch of requests, as if they came one after the other in the given order.
-- Answers arrays in that order: each request's outcome, the hold's id (the new one, or the one that
-- stands in the way), and how many units were free where it was sold out; and for all of them the times
-- of this call's holds, where it made any, and the number of holds that it expired. (Rows would cost a
-- tenth more.)
create or replace function reserve_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], hold_seconds integer,
  out outcomes text[], out ids bigint[], out free integer[],
  out reserved_at timestamptz, out expires_at timestamptz, out expired bigint
)
language plpgsql
-- A lock that cannot be had is a definite "nothing was done", and the client may retry.
set lock_timeout = '5s'
-- The statistics may still be those of the minute before the sale; and planning anew for each call
-- would cost a lone request more than everything else.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  size integer := cardinality(product_ids);
  request record;
  sold_out bigint[] := '{}';
  locked bigint[];
  stale bigint[];
  lacking boolean;
  short record;
  swept record;
  reclaimed bigint;
  next_id regclass := pg_get_serial_sequence('reservations', 'id');
  current_product bigint;
  free_units integer;
  holders bigint[];
  holder_ids bigint[];
begin
  outcomes := array_fill(null::text, array[size]);
  ids := array_fill(null::bigint, array[size]);
  free := array_fill(null::integer, array[size]);
  expired := 0;

  -- reserve: refuse where nothing is free or due. One snapshot decides, and no lock is needed: those who
  -- come too late wait for nobody, write nothing, and keep nobody from confirming what they hold.
  for request in
    select q.n, q.product_id, h.id as held_id
    from (
      -- The clock is read after the snapshot was taken: what falls due in between is due, not lost. The
      -- offsets keep the subqueries apart: one time and one look a product, not one a request.
      select p.id
      from (
        select p.id, clock_timestamp() as t
        from products p
        where p.id = any(product_ids) and p.stock = 0
        offset 0
      ) p
      where not exists (
        select from reservations r
        where r.product_id = p.id and r.status = 'ACTIVE' and r.expires_at <= p.t
          and r.quantity > 0 -- the index's name tag
      )
      offset 0
    ) p
    join unnest(product_ids, user_ids) with ordinality as q (product_id, user_id, n)
      on q.product_id = p.id
    left join lateral (
      select r.id
      from reservations r
      where r.user_id = q.user_id and r.product_id = q.product_id and r.status = 'ACTIVE'
        and r.user_id > 0 -- the index's name tag
      limit 1
    ) h on true
  loop
    if request.product_id <> all(sold_out) then
      sold_out := sold_out || request.product_id;
    end if;
    if request.held_id is null then
      outcomes[request.n] := 'sold_out';
      free[request.n] := 0;
    else
      outcomes[request.n] := 'already_reserved';
      ids[request.n] := request.held_id;
    end if;
  end loop;
  if array_position(outcomes, null) is null then
    return;
  end if;

  -- reserve: lock the products, in id order
  locked := array(
    select p.id
    from products p
    where p.id = any(product_ids) and p.id <> all(sold_out)
    order by p.id
    for no key update
  );
  t := clock_timestamp();
  reserved_at := t;
  expires_at := t + make_interval(secs => hold_seconds);

  loop
    stale := '{}';
    lacking := false;
    current_product := null;

    -- reserve: decide, request by request, in a snapshot that sees the last lock holder's work
    for request in
      select q.n, q.product_id, q.user_id, q.quantity, p.stock, h.id as held_id, h.expires_at,
        count(*) over (partition by q.product_id, q.user_id) > 1 as repeated
      from unnest(product_ids, user_ids, quantities)
        with ordinality as q (product_id, user_id, quantity, n)
      -- A product that was created after the lock statement is not there yet.
      left join products p on p.id = q.product_id and p.id = any(locked)
      left join lateral (
        -- The limit keeps this one look-up a request, whatever the planner believes.
        select r.id, r.expires_at
        from reservations r
        where r.user_id = q.user_id and r.product_id = q.product_id and r.status = 'ACTIVE'
          and r.user_id > 0 -- the index's name tag
        limit 1
      ) h on true
      where q.product_id <> all(sold_out)
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
      elsif request.expires_at > t then
        outcomes[request.n] := 'already_reserved';
        ids[request.n] := request.held_id;
      elsif request.repeated and request.user_id = any(holders) then
        outcomes[request.n] := 'already_reserved';
        ids[request.n] := holder_ids[array_position(holders, request.user_id)];
      elsif request.held_id is not null then
        stale := stale || request.held_id;
      elsif request.quantity > free_units then
        outcomes[request.n] := 'sold_out';
        free[request.n] := free_units;
        lacking := true;
      else
        outcomes[request.n] := 'reserved';
        ids[request.n] := nextval(next_id);
        free_units := free_units - request.quantity;
        if request.repeated then
          holders := holders || request.user_id;
          holder_ids := holder_ids || ids[request.n];
        end if;
      end if;
    end loop;

    exit when not lacking and stale = '{}';
    reclaimed := 0;

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
      select count(*) into reclaimed from ended;
    end if;

    if lacking then
      -- reserve: reclaim where stock is short
      for short in
        select p.id, sum(q.quantity) - p.stock as units
        from unnest(product_ids, quantities, outcomes) as q (product_id, quantity, outcome)
        join products p on p.id = q.product_id
        where p.id = any(locked) and q.outcome in ('reserved', 'sold_out')
        group by p.id
        having sum(q.quantity) > p.stock
        order by p.id
      loop
        -- A pass is bounded: 100,000 due holds in one would keep the row locked for a second.
        select * into swept from reclaim_v1(short.id, t, least(short.units, 1000)::integer);
        reclaimed := reclaimed + swept.rows;
      end loop;
    end if;

    exit when reclaimed = 0;
    expired := expired + reclaimed;
  end loop;

  if 'reserved' = any(outcomes) then
    -- reserve: take the stock, one update a product
    update products p
    set stock = p.stock - g.units, held = p.held + g.units
    from (
      select q.product_id, sum(q.quantity)::integer as units
      from unnest(product_ids, quantities, outcomes) as q (product_id, quantity, outcome)
      where q.outcome = 'reserved'
      group by 1
    ) g
    where p.id = g.product_id;
  
    -- reserve: write the holds
    insert into reservations (id, product_id, user_id, quantity, expires_at, created_at)
    overriding system value
    select q.id, q.product_id, q.user_id, q.quantity, reserve_v1.expires_at, t
    from unnest(ids, product_ids, user_ids, quantities, outcomes)
      as q (id, product_id, user_id, quantity, outcome)
    where q.outcome = 'reserved';
  end if;
end
$$;

-- Confirms a batch of holds: what is ACTIVE and not past its deadline is sold, with its event.
-- Answers one row a request as the reservation stands afterwards (all null: there is none), the time
-- by which its deadline is to be judged, and on every row the number of holds that this call confirmed.
create or replace function confirm_v1(ids bigint[])
returns table (
  n bigint, id bigint, product_id bigint, user_id bigint, quantity integer, status text,
  expires_at timestamptz, created_at timestamptz, confirmed_at timestamptz, canceled_at timestamptz,
  expired_at timestamptz, changed bigint
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  product_ids bigint[];
  found bigint[];
  changed_total bigint;
begin
  -- confirm: find the reservations, once: one that a later statement could see has no locked product
  select array_agg(r.product_id order by q.n), array_agg(r.id) filter (where r.id is not null)
  into product_ids, found
  from unnest(ids) with ordinality as q (id, n)
  left join reservations r on r.id = q.id;

  -- confirm: lock the products, in id order
  perform from products p where p.id = any(product_ids) order by p.id for no key update;
  t := clock_timestamp();

  -- confirm: sell what is held, and write its event
  with sold as (
    update reservations r
    set status = 'CONFIRMED', confirmed_at = t
    where r.id = any(found) and r.status = 'ACTIVE' and r.expires_at > t
    returning r.id, r.product_id, r.user_id, r.quantity
  ), counted as (
    update products p
    set held = p.held - s.units, sold = p.sold + s.units
    from (select product_id, sum(quantity)::integer as units from sold group by 1) s
    where p.id = s.product_id
  ), events as (
    insert into outbox_events (event_type, payload, created_at, next_attempt_at)
    select 'ReservationConfirmed', jsonb_build_object(
      'reservation_id', s.id, 'product_id', s.product_id, 'user_id', s.user_id,
      'quantity', s.quantity, 'confirmed_at', t
    ), t, t
    from sold s
  )
  select count(*) into changed_total from sold;

  -- confirm: answer
  return query
  select q.n, r.id, r.product_id, r.user_id, r.quantity,
    case when r.status = 'ACTIVE' and r.expires_at <= t then 'EXPIRED' else r.status end,
    r.expires_at, r.created_at, r.confirmed_at, r.canceled_at,
    case when r.status = 'ACTIVE' and r.expires_at <= t then r.expires_at else r.expired_at end,
    changed_total
  from unnest(ids, product_ids) with ordinality as q (id, product_id, n)
  left join reservations r on r.id = q.id and q.product_id is not null;
end
$$;

-- Cancels a batch of holds: the units of what is ACTIVE and not past its deadline are free again.
-- Answers one row a request as the reservation stands afterwards (all null: there is none), the time
-- by which its deadline is to be judged, and on every row the number of holds that this call canceled.
create or replace function cancel_v1(ids bigint[])
returns table (
  n bigint, id bigint, product_id bigint, user_id bigint, quantity integer, status text,
  expires_at timestamptz, created_at timestamptz, confirmed_at timestamptz, canceled_at timestamptz,
  expired_at timestamptz, changed bigint
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  product_ids bigint[];
  found bigint[];
  changed_total bigint;
begin
  -- cancel: find the reservations, once: one that a later statement could see has no locked product
  select array_agg(r.product_id order by q.n), array_agg(r.id) filter (where r.id is not null)
  into product_ids, found
  from unnest(ids) with ordinality as q (id, n)
  left join reservations r on r.id = q.id;

  -- cancel: lock the products, in id order
  perform from products p where p.id = any(product_ids) order by p.id for no key update;
  t := clock_timestamp();

  -- cancel: end the holds, and give the units back
  with ended as (
    update reservations r
    set status = 'CANCELED', canceled_at = t
    where r.id = any(found) and r.status = 'ACTIVE' and r.expires_at > t
    returning r.product_id, r.quantity
  ), counted as (
    update products p
    set held = p.held - e.units, stock = p.stock + e.units
    from (select product_id, sum(quantity)::integer as units from ended group by 1) e
    where p.id = e.product_id
  )
  select count(*) into changed_total from ended;

  -- cancel: answer
  return query
  select q.n, r.id, r.product_id, r.user_id, r.quantity,
    case when r.status = 'ACTIVE' and r.expires_at <= t then 'EXPIRED' else r.status end,
    r.expires_at, r.created_at, r.confirmed_at, r.canceled_at,
    case when r.status = 'ACTIVE' and r.expires_at <= t then r.expires_at else r.expired_at end,
    changed_total
  from unnest(ids, product_ids) with ordinality as q (id, product_id, n)
  left join reservations r on r.id = q.id and q.product_id is not null;
end
$$;

-- Expires up to max_rows due holds of one product, longest due first; answers how many.
create or replace function expire_v1(product_id bigint, max_rows integer)
returns integer
language plpgsql
set lock_timeout = '5s'
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- expire: lock the product
  perform from products p where p.id = expire_v1.product_id for no key update;
  return (select d.rows from reclaim_v1(product_id, clock_timestamp(), max_rows) d);
end
$$;

-- What is due: the products among the 1,000 holds that are longest due (a storm has more, and the next
-- look finds them), for how long the oldest has been due, and the time until the next hold falls due
-- (null: nothing is held), both in seconds.
create or replace function due_v1(
  out products bigint[], out lag_seconds float8, out next_due_seconds float8
)
language plpgsql
-- The statistics may be those of the minute before the sale: then a plan that sorts all that is due
-- seems as good as one that reads the first 1,000 from their index.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set plan_cache_mode = force_generic_plan
as $$
declare
  t timestamptz := clock_timestamp();
begin
  -- due: look at the longest due
  select coalesce(array_agg(distinct d.product_id order by d.product_id), '{}'),
    coalesce(extract(epoch from t - min(d.expires_at)), 0)
  into products, lag_seconds
  from (
    select r.product_id, r.expires_at
    from reservations r
    where r.status = 'ACTIVE' and r.expires_at <= t
      and r.created_at < 'infinity' -- the index's name tag
    order by r.expires_at
    limit 1000
  ) d;

  -- due: look for the next
  select extract(epoch from r.expires_at - t)
  into next_due_seconds
  from reservations r
  where r.status = 'ACTIVE' and r.expires_at > t
    and r.created_at < 'infinity' -- the index's name tag
  order by r.expires_at
  limit 1;
end
$$;
