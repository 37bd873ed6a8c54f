-- The payload of an event of this type for a reservation: without null fields, and with only the time of this
-- transition.
create or replace function event_payload_v1(
  event_type text, id bigint, product_id bigint, user_id bigint, quantity integer, reference text,
  created_at timestamptz, expires_at timestamptz, confirmed_at timestamptz,
  canceled_at timestamptz, expired_at timestamptz, returned_at timestamptz
)
returns jsonb
-- A single stable SQL expression without settings, so that the planner can inline it.
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
