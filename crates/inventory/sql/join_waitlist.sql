-- Adds a user to the end of a product's waitlist. If units are free for the entry, also units of holds that are due, it
-- is offered a hold at once.
--
-- `outcome` is 'joined', with the entry; or a refusal: 'product_not_found'; 'already_waiting' and 'already_reserved' with
-- the id of the entry or hold in `number`; 'sale_not_open', 'sale_closed'; 'max_per_user_reached' with the units that
-- the user may still have in `number`. `place` is the entry's position in the line. `expired` and `offered` count holds.
create or replace function join_waitlist_v1(
  product_id bigint, user_id bigint, quantity integer, reference text, hold_seconds integer, events text[],
  out outcome text, out number bigint, out entry waitlist_entries, out place integer, out expired bigint,
  out offered bigint
)
language plpgsql
set lock_timeout = '5s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  t timestamptz;
  product products;
  hold reservations_active;
begin
  expired := 0; offered := 0;
  -- join waitlist: lock the product
  select * into product from products p where p.id = join_waitlist_v1.product_id for no key update;
  t := clock_timestamp();

  -- join waitlist: the user's own entry
  select e.id into number from waitlist_entries e
  where e.user_id = join_waitlist_v1.user_id and e.product_id = product.id and e.status = 'WAITING';
  -- join waitlist: the user's own hold
  select * into hold from reservations_active h
  where h.user_id = join_waitlist_v1.user_id and h.product_id = product.id
    and h.user_id > 0; -- selects the index

  outcome := case
    when product.id is null then 'product_not_found'
    when number is not null then 'already_waiting'
    when hold.expires_at > t then 'already_reserved'
    when product.sale_starts_at > t then 'sale_not_open'
    when product.sale_ends_at <= t then 'sale_closed'
    when quantity > still_allowed_v1(product, user_id, t) then 'max_per_user_reached'
    else 'joined'
  end;
  if outcome <> 'joined' then
    number := case outcome
      when 'already_reserved' then hold.id
      when 'max_per_user_reached' then greatest(still_allowed_v1(product, user_id, t), 0)
      else number
    end;
    return;
  end if;

  offered := -offered_v1(array[product_id]);
  if hold.id is not null then
    expired := expire_holds_v2(
      array(select h.ctid from reservations_active h where h.id = hold.id), array[product.id], t, events
    );
  end if;
  -- join waitlist: write the entry
  insert into waitlist_entries (product_id, user_id, quantity, reference, hold_seconds, created_at)
  values (product.id, user_id, quantity, reference, hold_seconds, t)
  returning * into entry;
  -- join waitlist: count it
  update products p set waiting = p.waiting + 1 where p.id = product.id;
  -- join waitlist: the product's first entry
  insert into waitlists (product_id) values (product.id) on conflict do nothing;
  expired := expired + serve_waitlists_v1(array[product.id], t, events);
  offered := offered + offered_v1(array[product_id]);

  -- join waitlist: read the entry again
  select * into entry from waitlist_entries e where e.id = entry.id;
  -- join waitlist: while it waits, it is the last in the line
  select p.waiting into place from products p where p.id = product.id and entry.status = 'WAITING';
end
$$;
