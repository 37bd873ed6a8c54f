-- The schema of the first release: tables, indexes and constraints. The functions of the verbs are in
-- crates/inventory/sql, and `flashsale-api migrate` installs them after these files.
--
-- Also works with `psql reservation_db < migrations/000001_init.up.sql`. No statement names a schema: search_path
-- decides (see ARCHITECTURE.md, "Growing").

-- The version of the schema. Each later file raises `version`. A file that removes something also raises
-- `compatible_from`. A program built for version M works while compatible_from <= M <= version.
create table schema_version (
  version integer not null,
  compatible_from integer not null,
  constraint schema_version_order check (compatible_from <= version)
);
create unique index schema_version_one_row on schema_version ((true));
insert into schema_version (version, compatible_from) values (1, 1);

comment on column schema_version.compatible_from is 'the oldest schema that a program may need to work with this one';

-- The functions that `migrate` installed, so that it finds those that a new release has changed.
create table installed_functions (
  name text constraint installed_functions_pkey primary key,
  source_md5 text not null,
  installed_at timestamptz not null default clock_timestamp()
);

comment on column installed_functions.name is 'name of the function, with its version';
comment on column installed_functions.source_md5 is 'MD5 of the whole file in crates/inventory/sql';

-- Values that a statement does not change are checked by domains. PostgreSQL parses the text of every CHECK of a table
-- for each statement that writes to it, also when no column of the check is written: with thirteen such checks on
-- products and reservations, this took a sixth of a single reserve. A domain is checked only when its column is
-- written, and is parsed once a session.
create domain units as integer constraint units_not_negative check (value >= 0);
create domain positive_integer as integer constraint positive_integer check (value > 0);
create domain positive_bigint as bigint constraint positive_bigint check (value > 0);
create domain product_name as text constraint product_name_length check (char_length(value) between 1 and 200);
create domain reservation_reference as text
  constraint reservation_reference_length check (char_length(value) between 1 and 128);

create table products (
  id bigint generated always as identity constraint products_pkey primary key,
  name product_name not null,
  stock units not null,
  held units not null default 0,
  sold units not null default 0,
  total units not null,
  created_at timestamptz not null default clock_timestamp(),
  initial units,
  hold_seconds positive_integer,
  max_hold_seconds positive_integer,
  max_per_user positive_integer,
  sale_starts_at timestamptz,
  sale_ends_at timestamptz,
  constraint products_conserved check (total = stock + held + sold),
  constraint products_sale_window check (sale_starts_at < sale_ends_at)
)
-- A product on sale is one row that every batch updates. Free room on its page lets PostgreSQL reuse that room
-- (heap-only tuples) instead of growing the table and its index.
with (fillfactor = 25);

comment on column products.stock is 'free units';
comment on column products.held is 'units of ACTIVE reservations, including holds past their deadline that were not reclaimed yet';
comment on column products.sold is 'units of CONFIRMED reservations';
comment on column products.initial is 'units at creation; with the deltas of stock_adjustments, the total';
comment on column products.hold_seconds is 'duration of a hold; null: setting of the API';
comment on column products.max_hold_seconds is 'maximum duration of an extended hold, from its creation; null: setting of the API';
comment on column products.max_per_user is 'maximum number of units that a user may hold and have bought; null: unlimited';

create table stock_adjustments (
  id bigint generated always as identity constraint stock_adjustments_pkey primary key,
  product_id bigint not null constraint stock_adjustments_product references products (id),
  delta integer not null constraint stock_adjustments_delta_not_zero check (delta <> 0),
  reason text not null constraint stock_adjustments_reason_length check (char_length(reason) between 1 and 200),
  created_at timestamptz not null default clock_timestamp()
);
-- For the audit of each product.
create index stock_adjustments_by_product on stock_adjustments (product_id);

-- Reservations are stored in two partitions. Every reserve writes ACTIVE ones, so that partition has as few indexes
-- as the rules allow. The ended ones have the indexes of the lists. The verbs move a row with a delete and an insert.
-- When a person updates the status by hand, PostgreSQL does the same. That person must lock the product first, as the
-- verbs do: a verb that waits for the row would fail with 40001 and do nothing. An id is unique within each
-- partition, and the sequence keeps it unique across both. (An identity column of a partitioned table needs
-- PostgreSQL 17.)
create sequence reservations_id_seq as bigint;
create table reservations (
  id bigint not null default nextval('reservations_id_seq'),
  product_id bigint not null, -- of products; see crates/inventory/sql/products_keep.sql
  user_id positive_bigint not null,
  quantity positive_integer not null default 1,
  status text not null default 'ACTIVE', -- the two partitions below have fixed values
  expires_at timestamptz not null,
  created_at timestamptz not null default clock_timestamp(),
  confirmed_at timestamptz,
  canceled_at timestamptz,
  expired_at timestamptz,
  returned_at timestamptz,
  reference reservation_reference,
  reacquired_from bigint
) partition by list (status);
alter sequence reservations_id_seq owned by reservations.id;

comment on column reservations.expired_at is 'always equal to expires_at, not the time of the sweep';
comment on column reservations.reference is 'the shop''s own id of the order or cart';
comment on column reservations.reacquired_from is 'the expired reservation whose units this one took again';

create table reservations_active partition of reservations (
  constraint reservations_active_not_ended check (num_nonnulls(confirmed_at, canceled_at, expired_at, returned_at) = 0)
) for values in ('ACTIVE');
create table reservations_ended partition of reservations (
  constraint reservations_ended_once check (num_nonnulls(confirmed_at, canceled_at, expired_at) = 1),
  constraint reservations_ended_returned check ((returned_at is not null) = (status = 'RETURNED'))
) for values in ('CONFIRMED', 'CANCELED', 'EXPIRED', 'RETURNED');

-- An index on reservations_active costs every reserve about 1 us, so each one must serve a rule. A predicate that is
-- always true, such as user_id > 0, selects the index: only a statement that contains the predicate can use it.
-- Otherwise the planner chooses by statistics from before the sale, when the table was empty. It has searched one
-- user's hold by reading all holds of the product. Each predicate uses a column that the other statements do not
-- compare: from `id = 7` the planner can derive `id > 0`.

-- By id: confirm, cancel, extend, GET /reservations/{id}.
alter table reservations_active add constraint reservations_active_pkey primary key (id);
-- At most one ACTIVE hold per user and product. Also for the user's own hold in reserve, and GET
-- /reservations?user_id=.
create unique index reservations_active_one_per_user on reservations_active (user_id, product_id)
  where user_id > 0;
-- The due holds of one product, longest due first (reclaim and expire), and the next hold that falls due (expirer).
create index reservations_active_due on reservations_active (product_id, expires_at)
  where quantity > 0;
-- GET /reservations?reference=. Only holds with a reference are in it.
create index reservations_active_by_reference on reservations_active (reference, id) where reference is not null;

-- By id: repeated confirm and cancel, return, reacquire, GET /reservations/{id}. Also lists of all, newest first.
alter table reservations_ended add constraint reservations_ended_pkey primary key (id);
-- GET /reservations?user_id=, ?status=, ?product_id= and ?reference=, newest first.
create index reservations_ended_by_user on reservations_ended (user_id, id) where created_at > '-infinity';
create index reservations_ended_by_status on reservations_ended (status, id) where created_at > '-infinity';
create index reservations_ended_by_product on reservations_ended (product_id, id) where created_at > '-infinity';
create index reservations_ended_by_reference on reservations_ended (reference, id) where reference is not null;
-- max_per_user: the units of a product that a user has bought.
create index reservations_ended_bought on reservations_ended (user_id, product_id)
  where status = 'CONFIRMED' and quantity > 0;
-- Reacquire: the units of an expired hold can be taken again only once.
create unique index reservations_ended_reacquired_once on reservations_ended (reacquired_from)
  where reacquired_from is not null;

create table outbox_events (
  id bigint generated always as identity constraint outbox_events_pkey primary key,
  -- No unique index: no statement searches by it, and random ids in an index would add a tenth to the time of a
  -- confirm and of the relay. The default does not produce the same id twice.
  event_id uuid not null default gen_random_uuid(),
  event_type text not null,
  payload jsonb not null,
  created_at timestamptz not null default clock_timestamp(),
  published_at timestamptz,
  attempts integer not null default 0
    constraint outbox_events_attempts_not_negative check (attempts >= 0),
  next_attempt_at timestamptz not null default clock_timestamp(),
  last_error text,
  dead_at timestamptz,
  constraint outbox_events_one_end check (published_at is null or dead_at is null)
);

comment on column outbox_events.event_id is 'the message_id on every delivery of this event';
comment on column outbox_events.attempts is 'number of refusals of this row by the broker; outages do not count';

-- The relay's claim: the unpublished events, in the order in which they may be tried.
create index outbox_events_unpublished on outbox_events (next_attempt_at, id)
  where published_at is null and dead_at is null;
-- For the purge and the replay.
create index outbox_events_published on outbox_events (published_at) where published_at is not null;
-- GET /admin/outbox/dead and the requeue.
create index outbox_events_dead on outbox_events (id) where dead_at is not null;

-- Idempotency-Key: a repeated request gets the stored answer of the first one. The key and its answer are written in
-- the transaction of the request's work.
create table idempotency_keys (
  -- Compared byte by byte: the rules of a language would take several times as long.
  client text collate "C" not null,
  key text collate "C" not null constraint idempotency_keys_key_length check (char_length(key) between 1 and 255),
  fingerprint bytea not null
    constraint idempotency_keys_fingerprint_length check (octet_length(fingerprint) = 32),
  status smallint constraint idempotency_keys_status_kept check (status between 200 and 499),
  location text,
  body text,
  created_at timestamptz not null default clock_timestamp(),
  -- The key comes first: otherwise PostgreSQL could read all keys of a client to find one.
  constraint idempotency_keys_pkey primary key (key, client),
  constraint idempotency_keys_whole_answer check ((status is null) = (body is null))
);

comment on column idempotency_keys.client is 'the client that sent the key; empty: the API has no client keys';
comment on column idempotency_keys.fingerprint is 'SHA-256 of the request';
comment on column idempotency_keys.status is 'HTTP status of the answer; null only within the transaction that claimed the key';
comment on column idempotency_keys.location is 'the Location header of the answer';

-- For the purge, oldest first. Refusals are kept for a shorter time.
create index idempotency_keys_by_age on idempotency_keys ((status >= 400), created_at);

-- The running processes. Unlogged: a heartbeat needs no disk flush, and after a crash every process reports again
-- within a second.
create unlogged table processes (
  instance text constraint processes_pkey primary key,
  role text not null constraint processes_role_known check (role in ('api', 'expirer', 'relay')),
  started_at timestamptz not null,
  seen_at timestamptz not null default clock_timestamp(),
  report jsonb not null
);

comment on table processes is 'one row per running process, and per process that stopped in the last minutes';
comment on column processes.seen_at is 'time of the last heartbeat; there is one per second';
comment on column processes.report is 'state that the process reports: inventory::presence::Report';
