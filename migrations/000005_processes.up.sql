-- Which processes run, for whoever watches the service.

-- Unlogged: a beat costs no flush of the disk, and after a crash everybody says again within a second that they are
-- there.
create unlogged table processes (
  instance text constraint processes_pkey primary key,
  role text not null constraint processes_role_known check (role in ('api', 'expirer', 'relay')),
  started_at timestamptz not null,
  seen_at timestamptz not null default clock_timestamp(),
  report jsonb not null
);

comment on table processes is 'a row for each process that runs, and for those that died in the last minutes';
comment on column processes.seen_at is 'its last beat; there is one a second';
comment on column processes.report is 'what it says of itself: inventory::presence::Report';
