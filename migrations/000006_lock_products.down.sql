-- As 000003_sale_policy made them.

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

drop function lock_products_v1(bigint[]);
