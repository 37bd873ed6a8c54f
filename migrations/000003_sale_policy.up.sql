-- Sale policy, references, returns, late payment and lifecycle events. Everything is optional: a product or
-- reservation without any of it is handled as before. The functions of 000002 stay for binaries that call them.

alter table products
  add column initial integer,
  add column hold_seconds integer,
  add column max_hold_seconds integer,
  add column max_per_user integer,
  add column sale_starts_at timestamptz,
  add column sale_ends_at timestamptz,
  add constraint products_initial_not_negative check (initial >= 0),
  add constraint products_hold_seconds_positive check (hold_seconds > 0),
  add constraint products_max_hold_seconds_positive check (max_hold_seconds > 0),
  add constraint products_max_per_user_positive check (max_per_user > 0),
  add constraint products_sale_window check (sale_starts_at < sale_ends_at);
update products set initial = total;

comment on column products.initial is 'units at creation; with the deltas of stock_adjustments, the total';
comment on column products.hold_seconds is 'how long a hold lasts; null: as the API is set';
comment on column products.max_hold_seconds is 'longest life of a hold that is extended, from its creation; null: as the API is set';
comment on column products.max_per_user is 'most units that a user may hold and have bought; null: any number';

-- Also where an older binary, or a person, creates the product.
create function products_initial_v1() returns trigger language plpgsql as $$
begin
  new.initial := new.total;
  return new;
end
$$;
create trigger products_initial before insert on products
  for each row execute function products_initial_v1();

create table stock_adjustments (
  id bigint generated always as identity constraint stock_adjustments_pkey primary key,
  product_id bigint not null constraint stock_adjustments_product references products (id),
  delta integer not null constraint stock_adjustments_delta_not_zero check (delta <> 0),
  reason text not null constraint stock_adjustments_reason_length check (char_length(reason) between 1 and 200),
  created_at timestamptz not null default clock_timestamp()
);
-- The audit, product by product.
create index stock_adjustments_by_product on stock_adjustments (product_id);

alter table reservations
  add column reference text,
  add column reacquired_from bigint,
  add column returned_at timestamptz,
  -- Not checked for the rows that are there: they have none of these.
  add constraint reservations_reference_length check (char_length(reference) between 1 and 128) not valid,
  add constraint reservations_returned
    check ((returned_at is not null) = (status = 'RETURNED')) not valid,
  drop constraint reservations_status_known,
  add constraint reservations_status_known
    check (status in ('ACTIVE', 'CONFIRMED', 'CANCELED', 'EXPIRED', 'RETURNED')) not valid;

comment on column reservations.reference is 'the order or cart, as the shop names it';
comment on column reservations.reacquired_from is 'the expired reservation whose units this one took again';

-- Of an expired hold the units are taken again once.
create unique index reservations_reacquired_once on reservations (reacquired_from)
  where reacquired_from is not null;
-- GET /reservations?reference=…, newest first.
create index reservations_by_reference on reservations (reference, id) where reference is not null;

-- What a user has bought of a product, for max_per_user. The name tag is explained in 000001.
create index reservations_bought on reservations (user_id, product_id)
  where status = 'CONFIRMED' and quantity > 0;

-- No statement looks an event up by its message id, and a random id in an index costs a confirm and its relay
-- a tenth of their time. The default, gen_random_uuid(), does not repeat itself.
alter table outbox_events drop constraint outbox_events_event_id_key;

-- What the verbs by id answer with.
create type standing_v1 as (
  n bigint, id bigint, product_id bigint, user_id bigint, quantity integer, status text,
  expires_at timestamptz, created_at timestamptz, confirmed_at timestamptz, canceled_at timestamptz,
  expired_at timestamptz, returned_at timestamptz, reference text, reacquired_from bigint, changed bigint
);

-- What an event of this type tells of a reservation: nothing that it does not know, and of the times the
-- transition's own.
create or replace function event_payload_v1(
  event_type text, id bigint, product_id bigint, user_id bigint, quantity integer, reference text,
  created_at timestamptz, expires_at timestamptz, confirmed_at timestamptz,
  canceled_at timestamptz, expired_at timestamptz, returned_at timestamptz
)
returns jsonb
-- One expression, not volatile, without settings: the planner puts it in place of each call.
language sql stable
as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'reservation_id', id, 'product_id', product_id, 'user_id', user_id,
    'quantity', quantity, 'reference', reference,
    'created_at', case event_type when 'ReservationCreated' then created_at end,
    'expires_at', case event_type when 'ReservationCreated' then expires_at end,
    'confirmed_at', case event_type when 'ReservationConfirmed' then confirmed_at end,
    'canceled_at', canceled_at, 'expired_at', expired_at, 'returned_at', returned_at
  ))
$$;

-- Writes one event for each of these reservations, with the times of the transition, if events of this type
-- are wanted. The relay moves the reference into a header.
create or replace function write_events_v1(
  event_type text, ids bigint[], t timestamptz, events text[]
)
returns void
language plpgsql
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  if ids is null or write_events_v1.event_type <> all(events) then
    return;
  end if;
  -- write events
  insert into outbox_events (event_type, payload, created_at, next_attempt_at)
  select write_events_v1.event_type, event_payload_v1(
    write_events_v1.event_type, r.id, r.product_id, r.user_id, r.quantity, r.reference,
    r.created_at, r.expires_at, r.confirmed_at, r.canceled_at, r.expired_at, r.returned_at
  ), t, t
  from reservations r
  where r.id = any(ids);
end
$$;

-- How these reservations stand at t, one row a request, for the verbs to answer with: all null where there
-- is none, the status by which their deadline is to be judged, and on every row how many the verb changed.
-- A reservation whose product was not found before the lock is not looked at: it is younger than the call.
create or replace function standing_v1(
  ids bigint[], product_ids bigint[], t timestamptz, changed bigint
)
returns setof standing_v1
language plpgsql
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- standing
  return query
  select q.n, r.id, r.product_id, r.user_id, r.quantity,
    case when r.status = 'ACTIVE' and r.expires_at <= t then 'EXPIRED' else r.status end,
    r.expires_at, r.created_at, r.confirmed_at, r.canceled_at,
    case when r.status = 'ACTIVE' and r.expires_at <= t then r.expires_at else r.expired_at end,
    r.returned_at, r.reference, r.reacquired_from, changed
  from unnest(ids, product_ids) with ordinality as q (id, product_id, n)
  left join lateral (
    -- The limit keeps this one look-up a request, whatever the planner believes.
    select r.* from reservations r where r.id = q.id and q.product_id is not null limit 1
  ) r on true;
end
$$;

-- Ends up to max_rows holds of one product that are due at t, longest due first, and gives their
-- units back. The caller holds the product's lock and has read t after it: without the lock two
-- callers could return the same unit.
create or replace function reclaim_v2(
  product_id bigint, t timestamptz, max_rows integer, events text[],
  out rows integer, out units integer
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
    where r.product_id = reclaim_v2.product_id and r.status = 'ACTIVE' and r.expires_at <= t
      and r.quantity > 0 -- the index's name tag
    order by r.expires_at
    limit max_rows
  );

  -- reclaim: end these holds
  with ended as (
    update reservations r
    set status = 'EXPIRED', expired_at = r.expires_at
    where r.id = any(due) and r.status = 'ACTIVE' and r.expires_at <= t
    returning r.id, r.quantity
  )
  select count(*), coalesce(sum(e.quantity), 0), array_agg(e.id) into rows, units, due from ended e;

  if rows > 0 then
    -- reclaim: give the units back
    update products p
    set stock = p.stock + units, held = p.held - units
    where p.id = reclaim_v2.product_id;
    perform write_events_v1('ReservationExpired', due, t, events);
  end if;
end
$$;

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

-- Reserves all of the requests or none: as reserve_v2, but where one is refused, the others are undone and
-- have no outcome.
create or replace function reserve_together_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[],
  hold_seconds integer, events text[],
  out outcomes text[], out ids bigint[], out numbers integer[],
  out reserved_at timestamptz, out expired bigint
)
language plpgsql
as $$
#variable_conflict use_column
begin
  select r.outcomes, r.ids, r.numbers, r.reserved_at, r.expired
  into outcomes, ids, numbers, reserved_at, expired
  from reserve_v2(product_ids, user_ids, quantities, reference_texts, hold_seconds, events) r;
  if 'reserved' = any(outcomes) and 'reserved' <> any(outcomes) then
    -- Rolls back to the beginning of this block; what was found stays in the variables.
    raise exception using errcode = 'FS001';
  end if;
exception when sqlstate 'FS001' then
  outcomes := array_replace(outcomes, 'reserved', null);
  expired := 0;
end
$$;

-- Confirms a batch of holds: what is ACTIVE and not past its deadline is sold, with its event.
-- Answers with standing_v1.
create or replace function confirm_v2(ids bigint[], events text[])
returns setof standing_v1
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
  changed bigint;
begin
  -- confirm: find the reservations, once: one that a later statement could see has no locked product
  select array_agg(r.product_id order by q.n), array_agg(r.id) filter (where r.id is not null)
  into product_ids, found
  from unnest(ids) with ordinality as q (id, n)
  left join lateral (
    -- The limit keeps this one look-up a request, whatever the planner believes.
    select r.id, r.product_id from reservations r where r.id = q.id limit 1
  ) r on true;

  -- confirm: lock the products, in id order
  perform from products p where p.id = any(product_ids) order by p.id for no key update;
  t := clock_timestamp();

  -- confirm: sell what is held, and write its event
  with sold as (
    update reservations r
    set status = 'CONFIRMED', confirmed_at = t
    where r.id = any(found) and r.status = 'ACTIVE' and r.expires_at > t
    returning r.*
  ), counted as (
    update products p
    set held = p.held - s.units, sold = p.sold + s.units
    from (select product_id, sum(quantity)::integer as units from sold group by 1) s
    where p.id = s.product_id
  ), told as (
    -- Not by write_events_v1, which would read the rows again: a quarter of what a confirm costs.
    insert into outbox_events (event_type, payload, created_at, next_attempt_at)
    select 'ReservationConfirmed', event_payload_v1(
      'ReservationConfirmed', s.id, s.product_id, s.user_id, s.quantity, s.reference,
      s.created_at, s.expires_at, s.confirmed_at, s.canceled_at, s.expired_at, s.returned_at
    ), t, t
    from sold s
    where 'ReservationConfirmed' = any(events)
  )
  select count(*) into changed from sold;

  return query select * from standing_v1(ids, product_ids, t, changed);
end
$$;

-- Cancels a batch of holds: the units of what is ACTIVE and not past its deadline are free again.
-- Answers with standing_v1.
create or replace function cancel_v2(ids bigint[], events text[])
returns setof standing_v1
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
  changed bigint;
begin
  -- cancel: find the reservations, once: one that a later statement could see has no locked product
  select array_agg(r.product_id order by q.n), array_agg(r.id) filter (where r.id is not null)
  into product_ids, found
  from unnest(ids) with ordinality as q (id, n)
  left join lateral (
    -- The limit keeps this one look-up a request, whatever the planner believes.
    select r.id, r.product_id from reservations r where r.id = q.id limit 1
  ) r on true;

  -- cancel: lock the products, in id order
  perform from products p where p.id = any(product_ids) order by p.id for no key update;
  t := clock_timestamp();

  -- cancel: end the holds, and give the units back
  with ended as (
    update reservations r
    set status = 'CANCELED', canceled_at = t
    where r.id = any(found) and r.status = 'ACTIVE' and r.expires_at > t
    returning r.id, r.product_id, r.quantity
  ), counted as (
    update products p
    set held = p.held - e.units, stock = p.stock + e.units
    from (select product_id, sum(quantity)::integer as units from ended group by 1) e
    where p.id = e.product_id
  )
  select count(*), array_agg(id) into changed, found from ended;
  perform write_events_v1('ReservationCanceled', found, t, events);

  return query select * from standing_v1(ids, product_ids, t, changed);
end
$$;

-- Moves the deadlines of a batch of holds to the given seconds from now, where that is later than they are,
-- but not beyond the longest time from their creation: the product's own, or else the given one. Only what
-- is ACTIVE and not past its deadline is moved. Answers with standing_v1.
create or replace function extend_v1(ids bigint[], seconds integer[], max_hold_seconds integer)
returns setof standing_v1
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
  changed bigint;
begin
  -- extend: find the reservations, once: one that a later statement could see has no locked product
  select array_agg(r.product_id order by q.n), array_agg(r.id) filter (where r.id is not null)
  into product_ids, found
  from unnest(ids) with ordinality as q (id, n)
  left join lateral (
    -- The limit keeps this one look-up a request, whatever the planner believes.
    select r.id, r.product_id from reservations r where r.id = q.id limit 1
  ) r on true;

  -- extend: lock the products, in id order
  perform from products p where p.id = any(product_ids) order by p.id for no key update;
  t := clock_timestamp();

  -- extend: move the deadlines
  with moved as (
    update reservations r
    set expires_at = w.expires_at
    from (
      select h.id, least(
        t + max(q.seconds) * interval '1 second',
        h.created_at + coalesce(p.max_hold_seconds, extend_v1.max_hold_seconds) * interval '1 second'
      ) as expires_at
      from unnest(ids, seconds) as q (id, seconds)
      cross join lateral (
        select r.id, r.product_id, r.created_at from reservations r where r.id = q.id limit 1
      ) h
      join products p on p.id = h.product_id
      where h.id = any(found)
      group by h.id, h.created_at, p.id
    ) w
    where r.id = w.id and r.status = 'ACTIVE' and r.expires_at > t and r.expires_at < w.expires_at
    returning r.id
  )
  select count(*) into changed from moved;

  return query select * from standing_v1(ids, product_ids, t, changed);
end
$$;

-- Takes back what a batch of reservations sold: the units of what is CONFIRMED are free again, once.
-- Answers with standing_v1.
create or replace function return_v1(ids bigint[], events text[])
returns setof standing_v1
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
  changed bigint;
begin
  -- return: find the reservations, once: one that a later statement could see has no locked product
  select array_agg(r.product_id order by q.n), array_agg(r.id) filter (where r.id is not null)
  into product_ids, found
  from unnest(ids) with ordinality as q (id, n)
  left join lateral (
    -- The limit keeps this one look-up a request, whatever the planner believes.
    select r.id, r.product_id from reservations r where r.id = q.id limit 1
  ) r on true;

  -- return: lock the products, in id order
  perform from products p where p.id = any(product_ids) order by p.id for no key update;
  t := clock_timestamp();

  -- return: take the sales back, and free the units
  with returned as (
    update reservations r
    set status = 'RETURNED', returned_at = t
    where r.id = any(found) and r.status = 'CONFIRMED'
    returning r.id, r.product_id, r.quantity
  ), counted as (
    update products p
    set sold = p.sold - e.units, stock = p.stock + e.units
    from (select product_id, sum(quantity)::integer as units from returned group by 1) e
    where p.id = e.product_id
  )
  select count(*), array_agg(id) into changed, found from returned;
  perform write_events_v1('ReservationReturned', found, t, events);

  return query select * from standing_v1(ids, product_ids, t, changed);
end
$$;

-- Sells again what an expired hold has lost, if the units are there: a new, CONFIRMED reservation that names
-- the old one, which stays EXPIRED. A repeat finds the new one. Answers the new one's standing, or the old
-- one's where it is not EXPIRED or where the outcome is a refusal: 'expired_sold_out', or
-- 'max_per_user_reached' with how many units the user may have. `expired` counts the holds that were ended on
-- the way.
create or replace function reacquire_v1(
  id bigint, events text[],
  out outcome text, out remaining integer, out expired bigint, out standing standing_v1
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  lost reservations;
  swept record;
  free_units integer;
  allowed bigint;
  again bigint;
begin
  expired := 0;

  -- reacquire: find the reservation
  select * into lost from reservations r where r.id = reacquire_v1.id;

  -- reacquire: lock the product
  perform from products p where p.id = lost.product_id for no key update;
  t := clock_timestamp();

  -- reacquire: look at it again, in a snapshot that sees the last lock holder's work
  select * into lost from reservations r where r.id = reacquire_v1.id and r.product_id = lost.product_id;
  if lost.status is distinct from 'EXPIRED' and (lost.status = 'ACTIVE' and lost.expires_at <= t) is not true then
    standing := standing_v1(array[reacquire_v1.id], array[lost.product_id], t, 0);
    return;
  end if;

  -- reacquire: look for an earlier one
  select r.id into again from reservations r where r.reacquired_from = reacquire_v1.id;
  if found then
    standing := standing_v1(array[again], array[lost.product_id], t, 0);
    return;
  end if;

  loop
    -- reacquire: look for free units
    select p.stock into free_units from products p where p.id = lost.product_id;
    exit when free_units >= lost.quantity;
    -- The lost hold itself may be among those that nobody swept yet.
    select * into swept from reclaim_v2(lost.product_id, t, 1000, events);
    if swept.rows = 0 then
      outcome := 'expired_sold_out';
      standing := standing_v1(array[reacquire_v1.id], array[lost.product_id], t, 0);
      return;
    end if;
    expired := expired + swept.rows;
  end loop;

  -- reacquire: count what the user holds and has bought since
  select p.max_per_user - (
    select coalesce(sum(r.quantity), 0)
    from reservations r
    where r.user_id = lost.user_id and r.product_id = lost.product_id and r.status = 'CONFIRMED'
      and r.quantity > 0 -- the index's name tag
  ) - (
    select coalesce(sum(r.quantity), 0)
    from reservations r
    where r.user_id = lost.user_id and r.product_id = lost.product_id and r.status = 'ACTIVE'
      and r.expires_at > t
      and r.user_id > 0 -- the index's name tag
  )
  into allowed from products p where p.id = lost.product_id;
  if lost.quantity > allowed then
    outcome := 'max_per_user_reached';
    remaining := greatest(allowed, 0);
    standing := standing_v1(array[reacquire_v1.id], array[lost.product_id], t, 0);
    return;
  end if;

  -- reacquire: take the units
  update products p
  set stock = p.stock - lost.quantity, sold = p.sold + lost.quantity
  where p.id = lost.product_id;

  -- reacquire: sell them
  insert into reservations
    (product_id, user_id, quantity, status, reference, reacquired_from, expires_at, created_at, confirmed_at)
  values
    (lost.product_id, lost.user_id, lost.quantity, 'CONFIRMED', lost.reference, lost.id, t, t, t)
  returning reservations.id into again;
  perform write_events_v1('ReservationConfirmed', array[again], t, events);

  outcome := 'reacquired';
  standing := standing_v1(array[again], array[lost.product_id], t, 1);
end
$$;

-- Adds free units to a product or takes some away, and writes it into the ledger. Where fewer units are free
-- than are to be taken, or the total would not fit, nothing is done: then `adjusted` is false. It is null where
-- there is no such product. `expired` counts the holds that were ended on the way.
create or replace function adjust_stock_v1(
  product_id bigint, delta integer, reason text, events text[],
  out adjusted boolean, out product products, out expired bigint
)
language plpgsql
set lock_timeout = '5s'
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  swept record;
  adjustment bigint;
begin
  -- adjust stock: lock the product
  select * into product from products p where p.id = adjust_stock_v1.product_id for no key update;
  if not found then
    return;
  end if;
  t := clock_timestamp();
  expired := 0;

  while product.stock + delta::bigint < 0 loop
    select * into swept from reclaim_v2(adjust_stock_v1.product_id, t, 1000, events);
    product.stock := product.stock + swept.units;
    product.held := product.held - swept.units;
    expired := expired + swept.rows;
    exit when swept.rows = 0;
  end loop;
  adjusted := product.stock + delta::bigint >= 0 and product.total + delta::bigint <= 2147483647;
  if not adjusted then
    return;
  end if;

  -- adjust stock: add or take the units
  update products p
  set stock = p.stock + delta, total = p.total + delta
  where p.id = adjust_stock_v1.product_id
  returning p.* into product;

  -- adjust stock: write it down
  insert into stock_adjustments (product_id, delta, reason, created_at)
  values (adjust_stock_v1.product_id, adjust_stock_v1.delta, adjust_stock_v1.reason, t)
  returning id into adjustment;

  if 'StockAdjusted' = any(events) then
    -- adjust stock: write the event
    insert into outbox_events (event_type, payload, created_at, next_attempt_at)
    values ('StockAdjusted', jsonb_build_object(
      'adjustment_id', adjustment, 'product_id', adjust_stock_v1.product_id, 'delta', delta,
      'reason', reason, 'stock', product.stock, 'total', product.total, 'adjusted_at', t
    ), t, t);
  end if;
end
$$;

-- Expires up to max_rows due holds of one product, longest due first; answers how many.
create or replace function expire_v2(product_id bigint, max_rows integer, events text[])
returns integer
language plpgsql
set lock_timeout = '5s'
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  -- expire: lock the product
  perform from products p where p.id = expire_v2.product_id for no key update;
  return (select d.rows from reclaim_v2(product_id, clock_timestamp(), max_rows, events) d);
end
$$;
