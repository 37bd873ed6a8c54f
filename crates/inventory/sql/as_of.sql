-- A reservation as it reads at t: past its deadline an ACTIVE one is EXPIRED, swept or not.
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
