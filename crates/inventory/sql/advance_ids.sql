-- Makes sure that no id is given out twice, also after a restore or a failover. Each session of the service calls this
-- before its first request. Returns whether ids were advanced.
--
-- A database that was restored to an earlier moment has forgotten ids that clients and consumers know. It then runs on
-- another timeline of PostgreSQL (point-in-time recovery, a promoted standby) or consists of other objects (a dump, a
-- copy) than id_epoch says. In this case, each sequence of the schema skips 10^10 ids, what a server gives out in three
-- days at 40,000 per second, and a random number of up to 10^11 more. The random part is for two restores of the same
-- backup: otherwise the second one would give out the ids of the first again. A gap harms nobody, and the 10^13 ids of a
-- cell have room for more than 90. Ids are JSON numbers and stay below 2^53: close to that, or to the sequence's own
-- maximum, half of the rest is skipped.
--
-- It runs with the rights of its owner: no other role may set a sequence, or the record. Therefore its search_path is
-- fixed, below, and temporary tables of the caller come last.
create or replace function advance_ids_v1(out advanced boolean)
language plpgsql
security definer
-- Another session that is advancing them needs milliseconds.
set lock_timeout = '5s'
as $$
declare
  here record;
  known boolean;
  sequence record;
  least_gap constant bigint := 10000000000;
  random_gap constant bigint := 100000000000;
  -- The largest integer that every JSON parser reads exactly.
  largest constant bigint := 9007199254740991;
begin
  advanced := false;
  -- advance ids: where this database is. The control file's timeline is still the old one in the first moments after
  -- a promotion.
  select c.system_identifier,
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer as timeline,
    d.oid::bigint as database_oid, to_regclass('id_epoch')::oid::bigint as table_oid, clock_timestamp() as since
  into here
  from pg_control_system() c, pg_database d
  where d.datname = current_database();

  -- advance ids: is that where it was?
  perform from id_epoch e
  where e.system_identifier = here.system_identifier and e.timeline = here.timeline
    and e.database_oid = here.database_oid and e.table_oid = here.table_oid;
  if found then
    return;
  end if;

  -- This commit must not wait for a standby: after a restore, synchronous_standby_names may name one that does not
  -- exist here. If the commit is lost in a failover, the next timeline begins, and ids are advanced again.
  perform set_config('synchronous_commit', 'local', true);
  -- advance ids: one session at a time
  select e.timeline is not null into known from id_epoch e for update;
  -- advance ids: has another session done it?
  perform from id_epoch e
  where e.system_identifier = here.system_identifier and e.timeline = here.timeline
    and e.database_oid = here.database_oid and e.table_oid = here.table_oid;
  if found then
    return;
  end if;

  for sequence in
    -- advance ids: the sequences
    select s.seqrelid as oid, least(s.seqmax, largest) as largest,
      -- Nothing was given out: the id before the first one of the cell.
      coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart - 1) as last,
      pg_sequence_last_value(s.seqrelid) is not null as used
    from pg_sequence s
    join pg_class c on c.oid = s.seqrelid
    -- Another role's sequence in this schema is none of ours.
    where c.relnamespace = current_schema()::regnamespace and pg_has_role(c.relowner, 'usage')
  loop
    -- A new database has given out no ids, and begins with the first one of its cell.
    if known or sequence.used then
      perform setval(sequence.oid, sequence.last + least(
        least_gap + floor(random() * random_gap)::bigint, (sequence.largest - sequence.last) / 2
      ));
      advanced := true;
    end if;
  end loop;
  -- advance ids: record it
  update id_epoch
  set system_identifier = here.system_identifier, timeline = here.timeline, database_oid = here.database_oid,
    table_oid = here.table_oid, since = here.since;
end
$$;
do $$
begin
  execute format('alter function advance_ids_v1() set search_path = %I, pg_temp', current_schema());
end
$$;
