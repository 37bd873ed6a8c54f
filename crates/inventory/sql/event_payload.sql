-- The payload of an event of this type for a reservation: without null fields, and with only the time of this
-- transition.
create or replace function event_payload_v2(event_type text, reservation reservations)
returns jsonb
-- A single stable SQL expression without settings, so that the planner can inline it. The caller gives the reservation as
-- row(r.*)::reservations: of such a row, only the columns that are used here are read.
language sql stable
as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'reservation_id', reservation.id, 'product_id', reservation.product_id, 'user_id', reservation.user_id,
    'quantity', reservation.quantity, 'reference', reservation.reference,
    'created_at', case event_type when 'ReservationCreated' then reservation.created_at end,
    'expires_at', case event_type when 'ReservationCreated' then reservation.expires_at end,
    'confirmed_at', case event_type when 'ReservationConfirmed' then reservation.confirmed_at end,
    'canceled_at', reservation.canceled_at, 'expired_at', reservation.expired_at,
    'returned_at', reservation.returned_at
  ))
$$;
