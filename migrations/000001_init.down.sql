drop function expire_v1(bigint, integer);
drop function cancel_v1(bigint[]);
drop function confirm_v1(bigint[]);
drop function reserve_v1(bigint[], bigint[], integer[], integer);
drop function reclaim_v1(bigint, timestamptz, integer);
drop table outbox_events;
drop table reservations;
drop table products;
drop function products_keep_v1();
