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
