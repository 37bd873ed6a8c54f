drop table moved_reservations;
drop table product_moves;
update schema_version set version = 5;
