-- The slow path of reserve, for the requests that the fast path left over. Decides request by request. Expires due
-- holds when a user's own hold blocks a request or when units are lacking. The caller must have locked these products
-- and must have read t after locking. Returns the same arrays as reserve.
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
begin
  expired := 0;
  loop
    pass := reserve_pass_v1(product_ids, user_ids, quantities, locked, t);
    exit when not pass.lacking and pass.stale = '{}';
    ended := 0;
    if pass.stale <> '{}' then
      ended := expire_holds_v1(pass.stale, locked, t, events);
    end if;
    if pass.lacking then
      ended := ended + reclaim_short_v1(product_ids, quantities, pass.outcomes, locked, t, events);
    end if;
    exit when ended = 0;
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
end
$$;
