-- The fast path of reserve for requests of one product. Locks the product. When it has enough units for all requests
-- and no rule that could refuse one, the call serves the first request of each user who has no hold. The other
-- requests get no id and are left to reserve_one_by_one. `waited` is how long it has waited for the lock, in microseconds.
--
-- The lock reads the newest version of the product first. A lookup by `id = …` would visit every row version that an old
-- snapshot still needs, oldest first. A product on sale gains hundreds of versions per second.
create or replace function reserve_one_product_v2(
  product_id bigint, user_ids bigint[], quantities integer[], reference_texts text[], hold_seconds integer,
  out ids bigint[], out numbers integer[], out reserved_at timestamptz, out locked bigint[], out waited integer
)
language plpgsql
as $$
#variable_conflict use_variable
declare
  size integer := cardinality(user_ids); product record; since timestamptz;
  units bigint; users bigint := 1::bigint;
  holders bigint[]; deadline timestamptz;
begin
  -- reserve: lock the product, the newest version first. A try, so that a free lock counts as no wait
  select p.ctid as stored_at, p.* into product from products p
  where p.id >= product_id and p.id <= product_id
  order by p.id desc limit 1 for no key update skip locked;
  waited := 0;
  if not found then
    since := clock_timestamp();
    -- reserve: wait for the lock
    select p.ctid as stored_at, p.* into product from products p
    where p.id >= product_id and p.id <= product_id
    order by p.id desc limit 1 for no key update;
    -- An unknown product is no wait. The limits: the clock may be set meanwhile.
    if found then
      waited := least(greatest(extract(epoch from clock_timestamp() - since) * 1000000, 0), 60000000)::integer;
    end if;
  end if;
  reserved_at := clock_timestamp();
  locked := case when product.stock is null then '{}' else array[product_id] end;
  -- Here and below: for a single request, an expression costs a tenth of the query.
  if size = 1 then
    units := quantities[1]::bigint;
  else
    -- reserve: count the units and the users
    select sum(q.quantity), count(distinct q.user_id) into units, users
    from (select unnest(user_ids) as user_id, unnest(quantities) as quantity) q;
  end if;
  if product.stock is null or product.stock < units or product.max_per_user is not null
    or product.sale_starts_at > reserved_at or product.sale_ends_at <= reserved_at or product.waiting > 0
  then
    return;
  end if;

  -- reserve: find the users who hold the product
  holders := array(
    select h.user_id from reservations_active h
    where h.user_id = any(user_ids) and h.product_id = reserve_one_product_v2.product_id
      and h.user_id > 0 -- selects the index
  );
  if size = 1 and holders = '{}' then
    ids := array[nextval('reservations_id_seq')];
  elsif users = size and holders = '{}' then
    -- reserve: draw the ids
    ids := array(select nextval('reservations_id_seq') from (select unnest(user_ids)) q);
  else
    select d.ids, d.units into ids, units from draw_ids_v1(user_ids, quantities, holders) d;
  end if;
  deadline := reserved_at + coalesce(product.hold_seconds, hold_seconds) * interval '1 second';
  -- reserve: write the holds
  insert into reservations_active (id, product_id, user_id, quantity, reference, expires_at, created_at)
  select q.id, product_id, q.user_id, q.quantity, q.reference, deadline, reserved_at
  -- In FROM, unnest would store all rows first. That took a tenth of the whole call.
  from (
    select unnest(ids) id, unnest(user_ids) user_id, unnest(quantities) quantity, unnest(reference_texts) reference
  ) q where q.id is not null;

  -- reserve: take the stock
  update products p
  set stock = p.stock - units, held = p.held + units
  where p.ctid = product.stored_at and units > 0;
  numbers := case when product.hold_seconds is null then '{}'
    else array_fill(product.hold_seconds::integer, array[size]) end;
end
$$;
