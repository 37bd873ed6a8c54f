-- A reservation as it reads at time t. An ACTIVE reservation past its deadline reads as EXPIRED, also before the
-- sweep.
create or replace function as_of_v1(reservation reservations, t timestamptz)
returns reservations
language plpgsql
immutable
as $$
begin
  if reservation.status = 'ACTIVE' and reservation.expires_at <= t then
    reservation.status := 'EXPIRED';
    reservation.expired_at := reservation.expires_at;
  end if;
  return reservation;
end
$$;
