-- One pass of reserve_one_by_one: decides about each request with the units that are free now. Writes nothing.
-- `stale` has the due holds of users who asked again, whose requests have no outcome yet. `lacking` is true when a
-- request was refused because units are lacking. If neither is the case, the decisions are final. `lines` are the
-- products, in id order, that requests cannot have because other users wait for them.
create or replace function reserve_pass_v1(
  product_ids bigint[], user_ids bigint[], quantities integer[], locked bigint[], t timestamptz,
  out outcomes text[], out ids bigint[], out numbers integer[], out stale bigint[], out lacking boolean,
  out lines bigint[]
)
language plpgsql
as $$
#variable_conflict use_column
declare
  size integer := cardinality(product_ids);
  request record;
  current_product bigint;
  free_units integer;
  holders bigint[];
  holder_ids bigint[];
begin
  outcomes := array_fill(null::text, array[size]);
  ids := array_fill(null::bigint, array[size]);
  numbers := array_fill(null::integer, array[size]);
  stale := '{}'; lacking := false; lines := '{}';

  for request in
    select * from reserve_candidates_v1(product_ids, user_ids, quantities, locked, t)
  loop
    if current_product is distinct from request.product_id then
      current_product := request.product_id;
      free_units := request.stock;
      holders := '{}'; holder_ids := '{}';
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
        if request.product_id <> all(lines) then
          lines := lines || request.product_id;
        end if;
      end if;
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
      numbers[request.n] := greatest(request.allowed, 0)::integer;
    else
      outcomes[request.n] := 'reserved';
      ids[request.n] := nextval('reservations_id_seq');
      numbers[request.n] := request.hold_seconds;
      free_units := free_units - request.quantity;
      if request.repeated then
        holders := holders || request.user_id;
        holder_ids := holder_ids || ids[request.n];
      end if;
    end if;
  end loop;
end
$$;
