-- The waitlist: users who wait for units of a product, in the order in which they joined.

-- Without a domain: with one, PostgreSQL would write the whole table again. The audit compares it with the entries.
alter table products add column waiting integer not null default 0;
comment on column products.waiting is 'number of WAITING entries in waitlist_entries';

create table waitlist_entries (
  id bigint generated always as identity constraint waitlist_entries_pkey primary key,
  product_id bigint not null constraint waitlist_entries_product references products (id),
  user_id positive_bigint not null,
  quantity positive_integer not null,
  status text not null default 'WAITING'
    constraint waitlist_entries_status_known check (status in ('WAITING', 'OFFERED', 'LEFT', 'CLOSED')),
  reference reservation_reference,
  hold_seconds positive_integer not null,
  reservation_id bigint,
  created_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  constraint waitlist_entries_ended check ((ended_at is null) = (status = 'WAITING')),
  constraint waitlist_entries_offered check ((reservation_id is not null) = (status = 'OFFERED'))
);
comment on column waitlist_entries.id is 'also the order of the line';
comment on column waitlist_entries.hold_seconds is 'duration of the offered hold if the product has none of its own';
comment on column waitlist_entries.reservation_id is 'the hold that was offered';
comment on column waitlist_entries.ended_at is 'when the entry was offered a hold, left or was closed';

-- The line of a product: the first entries, and the number of entries before one.
create index waitlist_entries_waiting on waitlist_entries (product_id, id) where status = 'WAITING';
-- At most one waiting entry per user and product.
create unique index waitlist_entries_one_per_user on waitlist_entries (user_id, product_id) where status = 'WAITING';
-- A hold is offered once.
create unique index waitlist_entries_one_per_reservation on waitlist_entries (reservation_id)
  where reservation_id is not null;
-- GET /waitlist?product_id=, ?user_id= and ?status=.
create index waitlist_entries_by_product on waitlist_entries (product_id, id);
create index waitlist_entries_by_user on waitlist_entries (user_id, id);
create index waitlist_entries_by_status on waitlist_entries (status, id);

-- One row per product that ever had an entry. Not columns of products: reserve writes those rows hundreds of times
-- per second.
create table waitlists (
  product_id bigint constraint waitlists_pkey primary key constraint waitlists_product references products (id),
  due_at timestamptz,
  offered bigint not null default 0 constraint waitlists_offered_not_negative check (offered >= 0)
);
comment on column waitlists.due_at is
  'when the expirer must look at the line: at the start or end of the sale, or at once, if a call stopped at its limit';
comment on column waitlists.offered is 'number of holds that were offered';
-- The lines that are due.
create index waitlists_due on waitlists (due_at) where due_at is not null;

update schema_version set version = 2;
