-- The slow path of reserve, for the requests that the fast path left over. Decides request by request. Expires due
-- holds when a user's own hold blocks a request or when units are lacking. The caller must have locked these products
-- and must have read t after locking. Returns the same arrays as reserve. Behind the outcomes of the requests comes one
-- 'offered' for each hold that was offered to a waitlist.
create or replace function reserve_one_by_one_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[],
  hold_seconds integer, events text[], locked bigint[], t timestamptz,
  out outcomes text[], out ids bigint[], out numbers integer[], out expired bigint
)
language plpgsql
as $$
#variable_conflict use_column
declare
  size integer := cardinality(product_ids);
  request record;
  stale bigint[];
  ended bigint;
  lacking boolean;
  lines bigint[] := '{}'::bigint[];
  served boolean := false;
  offered bigint;
  current_product bigint;
  free_units integer;
  holders bigint[];
  holder_ids bigint[];
begin
  outcomes := array_fill(null::text, array[size]);
  ids := array_fill(null::bigint, array[size]);
  numbers := array_fill(null::integer, array[size]);
  expired := 0;

  loop
    stale := '{}';
    lacking := false;
    current_product := null;

    for request in
      select * from reserve_candidates_v1(product_ids, user_ids, quantities, locked, t)
    loop
      if current_product is distinct from request.product_id then
        current_product := request.product_id;
        free_units := request.stock;
        holders := '{}';
        holder_ids := '{}';
      end if;

      if request.stock is null then
        outcomes[request.n] := 'product_not_found';
      elsif request.held_until > t then
        -- Before the sale's window: a retry after a lost answer must find its hold, also after the end of the sale.
        outcomes[request.n] := 'already_reserved';
        ids[request.n] := request.held_id;
      elsif request.closed is not null then
        outcomes[request.n] := request.closed;
        if request.closed = 'sold_out' then
          numbers[request.n] := free_units;
          ids[request.n] := request.product_id;
          lines := lines || request.product_id;
        end if;
      elsif request.repeated and request.user_id = any(holders) then
        outcomes[request.n] := 'already_reserved';
        ids[request.n] := holder_ids[array_position(holders, request.user_id)];
      elsif request.held_id is not null then
        stale := stale || request.held_id;
      elsif request.quantity > free_units then
        outcomes[request.n] := 'sold_out';
        ids[request.n] := null; -- nobody waits, whatever an earlier pass has said
        numbers[request.n] := free_units;
        lacking := true;
      elsif request.quantity > request.allowed then
        outcomes[request.n] := 'max_per_user_reached';
        numbers[request.n] := greatest(request.allowed, 0)::integer;
      else
        outcomes[request.n] := 'reserved';
        ids[request.n] := nextval('reservations_id_seq');
        numbers[request.n] := request.hold_seconds; -- also null, to clear the number of an earlier pass
        free_units := free_units - request.quantity;
        if request.repeated then
          holders := holders || request.user_id;
          holder_ids := holder_ids || ids[request.n];
        end if;
      end if;
    end loop;

    if lines <> '{}' and not served then
      -- Due units belong to the users who wait. Once nobody waits any more, the rest is for these requests.
      served := true;
      lines := array(select distinct l.id from unnest(lines) as l (id) order by l.id);
      offered := offered_v1(lines);
      expired := expired + serve_waitlists_v1(lines, t, events);
      offered := offered_v1(lines) - offered;
      ids := array_fill(null::bigint, array[size]);
      continue;
    end if;
    exit when not lacking and stale = '{}';
    ended := 0;
    if stale <> '{}' then
      ended := expire_holds_v1(stale, locked, t, events);
    end if;
    if lacking then
      ended := ended + reclaim_short_v1(product_ids, quantities, outcomes, locked, t, events);
    end if;
    exit when ended = 0;
    expired := expired + ended;
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
    where p.id = any(locked) and p.id = g.product_id;

    -- reserve: write the holds
    insert into reservations_active (id, product_id, user_id, quantity, reference, expires_at, created_at)
    select q.id, q.product_id, q.user_id, q.quantity, q.reference,
      t + coalesce(q.own_seconds, hold_seconds) * interval '1 second', t
    from unnest(ids, product_ids, user_ids, quantities, reference_texts, numbers, outcomes)
      as q (id, product_id, user_id, quantity, reference, own_seconds, outcome)
    where q.outcome = 'reserved';

    perform write_events_v1('ReservationCreated', array(
      select q.id from unnest(ids, outcomes) as q (id, outcome) where q.outcome = 'reserved'
    ), t, events);
  end if;
  if offered > 0 then
    outcomes := outcomes || array_fill('offered'::text, array[offered::integer]);
  end if;
end
$$;
