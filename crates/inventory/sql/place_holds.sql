-- Writes new holds and takes their units from the stock, for requests of several products. A request without an id
-- gets no hold. `own_seconds` is the hold's duration where the product defines it. The caller must have locked these
-- products and must have read t after locking.
create or replace function place_holds_v1(
  ids bigint[], product_ids bigint[], user_ids bigint[], quantities integer[], reference_texts text[],
  own_seconds integer[], hold_seconds integer, locked bigint[], t timestamptz
)
returns void
language plpgsql
as $$
#variable_conflict use_column
begin
  -- reserve: write the holds
  insert into reservations_active (id, product_id, user_id, quantity, reference, expires_at, created_at)
  select q.id, q.product_id, q.user_id, q.quantity, q.reference,
    t + coalesce(q.own_seconds, hold_seconds) * interval '1 second', t
  from unnest(ids, product_ids, user_ids, quantities, reference_texts, own_seconds)
    as q (id, product_id, user_id, quantity, reference, own_seconds)
  where q.id is not null;

  -- reserve: take the stock, one update a product
  update products p
  set stock = p.stock - g.units, held = p.held + g.units
  from (
    select q.product_id, sum(q.quantity)::integer as units
    from unnest(ids, product_ids, quantities) as q (id, product_id, quantity)
    where q.id is not null
    group by 1
  ) g
  where p.id = any(locked) and p.id = g.product_id;
end
$$;
