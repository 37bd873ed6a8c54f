-- Drops the waitlists with all their data, and the functions that have their types.
drop table waitlists;
drop table waitlist_entries cascade;
alter table products drop column waiting;
update schema_version set version = 1;
