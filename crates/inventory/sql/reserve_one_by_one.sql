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
  pass record;
  ended bigint;
  reserved bigint[];
  served boolean := false;
  offered bigint;
begin
  expired := 0;
  loop
    pass := reserve_pass_v1(product_ids, user_ids, quantities, locked, t);
    if pass.lines <> '{}' and not served then
      -- Due units belong to the users who wait. Once nobody waits any more, the rest is for these requests.
      served := true;
      offered := offered_v1(pass.lines);
      expired := expired + serve_waitlists_v1(pass.lines, t, events);
      offered := offered_v1(pass.lines) - offered;
      continue;
    end if;
    exit when not pass.lacking and pass.stale = '{}';
    ended := 0;
    if pass.stale <> '{}' then
      ended := expire_holds_v2(
        -- reserve: where the users' own due holds are stored
        array(select h.ctid from reservations_active h where h.id = any(pass.stale)), locked, t, events
      );
    end if;
    if pass.lacking then
      ended := ended + reclaim_short_v1(product_ids, quantities, pass.outcomes, locked, t, events);
    end if;
    -- A due hold of a user that was changed by hand meanwhile is stored elsewhere: look again.
    exit when ended = 0 and pass.stale = '{}';
    expired := expired + ended;
  end loop;
  outcomes := pass.outcomes;
  ids := pass.ids;
  numbers := pass.numbers;

  if 'reserved' = any(outcomes) then
    reserved := array(
      select case when q.outcome = 'reserved' then q.id end
      from unnest(ids, outcomes) with ordinality as q (id, outcome, n)
      order by q.n
    );
    perform place_holds_v1(
      reserved, product_ids, user_ids, quantities, reference_texts, numbers, hold_seconds, locked, t
    );
    perform write_events_v1('ReservationCreated', reserved, t, events);
  end if;
  if offered > 0 then
    outcomes := outcomes || array_fill('offered'::text, array[offered::integer]);
  end if;
end
$$;
