-- A database role for each process, with what it needs and no more. Harmless to run again.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--
-- as a superuser, or as an owner of the database who may create roles, connected to the service's own database.
-- Run it before the first `migrate`, to have the roles, and after every one, to let them use what is new: a release
-- is migrate (as flashsale_owner), this, the processes.
-- Roles are made without a password, and so cannot log in with one until they get it: `\password flashsale_api`.
-- Where the tables belong to another role already: `reassign owned by THAT_ROLE to flashsale_owner`.
--
-- Nothing is taken from the functions: they run with the rights of whoever calls them. That is why each role needs the
-- rights on the tables that the functions use.

begin;

do $$
declare
  schema text := quote_ident(current_schema());
  name text;
begin
  foreach name in array array['flashsale_owner', 'flashsale_api', 'flashsale_expirer', 'flashsale_relay'] loop
    if not exists (select from pg_roles r where r.rolname = name) then
      execute format('create role %I login', name);
    end if;
    execute format('grant connect on database %I to %I', current_database(), name);
    execute format('grant usage on schema %s to %I', schema, name);
  end loop;

  -- Who is no superuser grants on the owner's tables as one of its members.
  if not pg_has_role('flashsale_owner', 'usage') then
    execute format('grant flashsale_owner to %I', current_user);
  end if;

  -- PostgreSQL 14 and older let everybody create what others' search_path would find.
  execute format('revoke create on schema %s from public', schema);
  -- `migrate` compares a schema that was made by hand with one of its own.
  execute format('grant create on database %I to flashsale_owner', current_database());
  execute format('grant create on schema %s to flashsale_owner', schema);

  if to_regclass('schema_version') is null then
    raise notice 'there are no tables yet: run this again after migrate';
    return;
  end if;

  -- Each process asks which schema this is. Which functions are installed concerns `migrate` alone.
  grant select on schema_version to flashsale_api, flashsale_expirer, flashsale_relay;
  -- Each says that it is there, and forgets who has long been gone.
  grant select, insert, update (seen_at, report), delete on processes
    to flashsale_api, flashsale_expirer, flashsale_relay;

  -- The API. A reservation that ends moves from one part of `reservations` to the other: a delete and an insert. The
  -- parts are written by their own names, and both are read by the name of the whole.
  grant select, insert,
    update (name, stock, held, sold, total, hold_seconds, max_hold_seconds, max_per_user, sale_starts_at, sale_ends_at)
    on products to flashsale_api;
  grant select on reservations to flashsale_api;
  grant select, insert, update (expires_at), delete on reservations_active to flashsale_api;
  grant select, insert, update (status, returned_at) on reservations_ended to flashsale_api;
  grant usage on sequence reservations_id_seq to flashsale_api;
  grant select, insert on stock_adjustments to flashsale_api;
  grant select, insert, update (published_at, attempts, next_attempt_at, dead_at) on outbox_events to flashsale_api;
  grant select, insert, update (status, location, body) on idempotency_keys to flashsale_api;

  -- The expirer: it moves holds that are due, and gives their units back. It reads the whole for the event of each,
  -- and of the ended ones what it has written.
  grant select, update (stock, held) on products to flashsale_expirer;
  grant select on reservations to flashsale_expirer;
  grant select, delete on reservations_active to flashsale_expirer;
  grant select (id, product_id, quantity),
    insert (id, product_id, user_id, quantity, status, expires_at, created_at, expired_at, reference, reacquired_from)
    on reservations_ended to flashsale_expirer;
  grant insert (event_type, payload, created_at, next_attempt_at) on outbox_events to flashsale_expirer;
  -- It purges old keys. To lock a row takes the right to update some column of it.
  grant select, update (created_at), delete on idempotency_keys to flashsale_expirer;

  -- The relay: it publishes what is written, and cannot write or change it.
  grant select, update (published_at, attempts, next_attempt_at, last_error, dead_at), delete
    on outbox_events to flashsale_relay;
end
$$;

commit;
