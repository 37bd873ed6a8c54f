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
-- Nothing is taken from the functions: they run with the rights of whoever calls them.

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

  if to_regclass('outbox_events') is null then
    raise notice 'there are no tables yet: run this again after migrate';
    return;
  end if;

  -- Everything but to change the schema, and to delete.
  grant select, insert, update on products, reservations to flashsale_api;
  grant select, insert on stock_adjustments to flashsale_api;
  grant select, insert, update (published_at, attempts, next_attempt_at, dead_at) on outbox_events to flashsale_api;
  -- reserve draws its numbers itself.
  grant usage on sequence reservations_id_seq to flashsale_api;

  grant select, update (stock, held) on products to flashsale_expirer;
  grant select, update (status, expired_at) on reservations to flashsale_expirer;
  -- It reads none of them; /readyz looks whether it could.
  grant insert, select (id) on outbox_events to flashsale_expirer;

  if to_regclass('idempotency_keys') is not null then
    grant select, insert, update (status, location, body) on idempotency_keys to flashsale_api;
    -- It purges them. To lock a row takes the right to update some column of it.
    grant select, update (created_at), delete on idempotency_keys to flashsale_expirer;
  end if;

  if to_regclass('processes') is not null then
    -- Each says that it is there, and forgets who has long been gone.
    grant select, insert, update (seen_at, report), delete on processes
      to flashsale_api, flashsale_expirer, flashsale_relay;
  end if;

  -- It publishes what is written, and cannot write or change it.
  grant select, update (published_at, attempts, next_attempt_at, last_error, dead_at), delete
    on outbox_events to flashsale_relay;
end
$$;

commit;
