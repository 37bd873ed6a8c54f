-- Reserves for a batch of requests, as if they came one after the other in the given order.
-- Answers arrays in that order: each request's outcome; the hold's id (the new one, or the one that
-- stands in the way); a number: how many units were free where it was sold out, how many more the user
-- may have where that is too few, and for how many seconds a hold lasts where the product says so; and for
-- all of them the time of this call's holds, where it made any, and the number of holds that it expired.
-- (Rows would cost a tenth more.) No reference at all is an empty array.
create or replace function reserve_v2(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[],
  hold_seconds integer, events text[],
  out outcomes text[], out ids bigint[], out numbers integer[],
  out reserved_at timestamptz, out expired bigint
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
  numbers := array_fill(null::integer, array[size]);
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
          and (p.sale_starts_at <= clock_timestamp()) is not false
          and (p.sale_ends_at > clock_timestamp()) is not false
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
      numbers[request.n] := 0;
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

  loop
    stale := '{}';
    lacking := false;
    current_product := null;

    -- reserve: decide, request by request, in a snapshot that sees the last lock holder's work
    for request in
      select q.n, q.product_id, q.user_id, q.quantity, p.stock, p.hold_seconds, h.id as held_id, h.expires_at,
        case
          when p.sale_starts_at > t then 'sale_not_open'
          when p.sale_ends_at <= t then 'sale_closed'
        end as closed,
        count(*) over (partition by q.product_id, q.user_id) > 1 as repeated,
        case when p.max_per_user is not null then p.max_per_user - (
          select coalesce(sum(r.quantity), 0)
          from reservations r
          where r.user_id = q.user_id and r.product_id = q.product_id and r.status = 'CONFIRMED'
            and r.quantity > 0 -- the index's name tag
        ) end as allowed
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
      elsif request.closed is not null then
        outcomes[request.n] := request.closed;
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
        numbers[request.n] := free_units;
        lacking := true;
      elsif request.quantity > request.allowed then
        outcomes[request.n] := 'max_per_user_reached';
        numbers[request.n] := greatest(request.allowed, 0);
      else
        outcomes[request.n] := 'reserved';
        ids[request.n] := nextval(next_id);
        numbers[request.n] := request.hold_seconds; -- also where it is null: an earlier pass may have found too few
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
        returning r.id, r.product_id, r.quantity
      ), given_back as (
        update products p
        set stock = p.stock + e.units, held = p.held - e.units
        from (select product_id, sum(quantity)::integer as units from ended group by 1) e
        where p.id = e.product_id
      )
      select count(*), array_agg(id) into reclaimed, stale from ended;
      perform write_events_v1('ReservationExpired', stale, t, events);
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
        select * into swept
        from reclaim_v2(short.id, t, least(short.units, 1000)::integer, events);
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
    insert into reservations (id, product_id, user_id, quantity, reference, expires_at, created_at)
    overriding system value
    select q.id, q.product_id, q.user_id, q.quantity, q.reference,
      t + coalesce(q.own_seconds, hold_seconds) * interval '1 second', t
    from unnest(ids, product_ids, user_ids, quantities, reference_texts, numbers, outcomes)
      as q (id, product_id, user_id, quantity, reference, own_seconds, outcome)
    where q.outcome = 'reserved';

    if 'ReservationCreated' = any(events) then
      perform write_events_v1('ReservationCreated', array(
        select q.id from unnest(ids, outcomes) as q (id, outcome) where q.outcome = 'reserved'
      ), t, events);
    end if;
  end if;
end
$$;
