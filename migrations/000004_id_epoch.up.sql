-- Where PostgreSQL was when this schema last gave out ids, so that a restored database is noticed. See
-- crates/inventory/sql/advance_ids.sql.
create table id_epoch (
  system_identifier bigint,
  timeline integer,
  database_oid bigint,
  table_oid bigint,
  since timestamptz
);
create unique index id_epoch_one_row on id_epoch ((true));
insert into id_epoch default values;

comment on table id_epoch is 'where this database was when ids were last advanced; all null: nowhere yet';
comment on column id_epoch.system_identifier is 'of the PostgreSQL server: pg_control_system()';
comment on column id_epoch.timeline is 'of the write-ahead log; each promotion and each recovery to a point in time begins a new one';
comment on column id_epoch.database_oid is 'in pg_database; a copy made with a template has another one';
comment on column id_epoch.table_oid is 'of this table; a table restored from a dump has another one';

update schema_version set version = 4;
