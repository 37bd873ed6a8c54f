-- A database role for each process, with only the rights that it needs. May be run again.
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--
-- Run it as a superuser, or as an owner of the database who may create roles, connected to the service's own
-- database. Run it before the first `migrate` to create the roles, and after every `migrate` to grant rights on new
-- objects. The order of a release is: migrate (as flashsale_owner), this script, the processes. Roles are created
-- without a password, and cannot log in until they get one: `\password flashsale_api`. If the tables belong to
-- another role: `reassign owned by THAT_ROLE to flashsale_owner`.
--
-- Functions run with the rights of the caller. Therefore each role needs rights on the tables that its functions use.
-- One function has its owner's rights: advance_ids_v1, because no other role may set the sequences of ids.

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
    -- Each session of the service sets these for itself, but not behind PgBouncer. A role that has a setting of its
    -- own for synchronous_commit, such as remote_apply, keeps it.
    execute format('alter role %I in database %I set default_transaction_isolation = ''read committed''',
      name, current_database());
    if not exists (
      select from pg_db_role_setting s
      where s.setrole = name::regrole
        and s.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database()))
        and exists (select from unnest(s.setconfig) as c (entry) where c.entry like 'synchronous\_commit=%')
    ) then
      execute format('alter role %I in database %I set synchronous_commit = ''on''', name, current_database());
    end if;
  end loop;

  -- A role that is not a superuser must be a member of the owner to grant rights on the owner's tables.
  if not pg_has_role('flashsale_owner', 'usage') then
    execute format('grant flashsale_owner to %I', current_user);
  end if;

  -- In PostgreSQL 14 and older everybody may create objects in schema public, which others' search_path would find.
  execute format('revoke create on schema %s from public', schema);
  -- `migrate` needs a schema of its own to compare one that was created by hand.
  execute format('grant create on database %I to flashsale_owner', current_database());
  execute format('grant create on schema %s to flashsale_owner', schema);

  if to_regclass('schema_version') is null then
    raise notice 'there are no tables yet: run this again after migrate';
    return;
  end if;

  -- Each process reads the schema version. Only `migrate` reads which functions are installed.
  grant select on schema_version to flashsale_api, flashsale_expirer, flashsale_relay;
  -- Each process writes its heartbeat, and deletes old rows of stopped processes.
  grant select, insert, update (seen_at, report), delete on processes
    to flashsale_api, flashsale_expirer, flashsale_relay;

  -- The live page shows the oldest transaction of any role. Without this right it sees those of the API only.
  begin
    grant pg_read_all_stats to flashsale_api;
  exception when insufficient_privilege then
    raise notice 'flashsale_api gets no pg_read_all_stats: a superuser must grant it';
  end;

  -- The API. A reservation that ends moves from one partition of `reservations` to the other: a delete and an insert.
  -- Writes use the partitions' names, and reads the name of the whole table.
  grant select, insert,
    update (name, sku, stock, held, sold, total, waiting, hold_seconds, max_hold_seconds, max_per_user, sale_starts_at,
      sale_ends_at)
    on products to flashsale_api;
  grant select on reservations to flashsale_api;
  grant select, insert, update (expires_at), delete on reservations_active to flashsale_api;
  grant select, insert, update (status, returned_at) on reservations_ended to flashsale_api;
  grant usage on sequence reservations_id_seq to flashsale_api;
  grant select, insert on stock_adjustments to flashsale_api;
  grant select, insert, update (status, reservation_id, ended_at) on waitlist_entries to flashsale_api;
  grant select, insert, update (due_at, offered) on waitlists to flashsale_api;
  grant select, insert, update (published_at, attempts, next_attempt_at, dead_at, last_error, traceparent)
    on outbox_events to flashsale_api;
  grant select, insert, update (status, location, body), delete on idempotency_keys to flashsale_api;
  -- Only the owner moves products. The API says where they are.
  grant select (product_id, sku, status, to_cell, changed_at) on product_moves to flashsale_api;
  grant select on moved_reservations to flashsale_api;

  -- The expirer. It moves due holds and frees their units. For the events it reads `reservations` as a whole, and of
  -- the ended ones those that it has written. It offers freed units to those who wait.
  grant select, update (stock, held, waiting) on products to flashsale_expirer;
  grant select on reservations to flashsale_expirer;
  grant select, delete,
    insert (id, product_id, user_id, quantity, expires_at, created_at, reference)
    on reservations_active to flashsale_expirer;
  grant usage on sequence reservations_id_seq to flashsale_expirer;
  grant select, update (status, reservation_id, ended_at) on waitlist_entries to flashsale_expirer;
  grant select, update (due_at, offered) on waitlists to flashsale_expirer;
  grant select (id, product_id, user_id, quantity, status),
    insert (id, product_id, user_id, quantity, status, expires_at, created_at, expired_at, reference, reacquired_from)
    on reservations_ended to flashsale_expirer;
  grant insert (event_type, payload, created_at, next_attempt_at) on outbox_events to flashsale_expirer;
  -- It purges old keys. Locking a row needs the right to update one of its columns.
  grant select, update (created_at), delete on idempotency_keys to flashsale_expirer;

  -- The relay. It publishes events, and cannot create or change them.
  grant select, update (published_at, attempts, next_attempt_at, last_error, dead_at), delete
    on outbox_events to flashsale_relay;
end
$$;

commit;
