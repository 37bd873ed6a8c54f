//! The sessions of a pool: those that cannot write, or that lead to another server than before, are not used. New ones
//! rehearse.

use std::time::{Duration, Instant};

use inventory::{
    Error, Executor, ProductId,
    database::{self, Connections, OwnSession, Rehearsal, execute},
    product::{self, NewProduct, Policy},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgPool, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A pool of one session.
fn service(pool: &PgPool, acquire: Duration) -> PgPool {
    let args = database::Args {
        database_url: pool.connect_options().to_url_lossy().to_string(),
        database_max_connections: 1,
        database_acquire_milliseconds: acquire.as_millis().try_into().unwrap(),
    };
    database::connect(&args, "rules").unwrap()
}

/// A session must come within this time.
const PATIENT: Duration = Duration::from_secs(60);

/// As processes have them: a pool of one session, and a session of its own.
fn both(pool: &PgPool) -> (PgPool, OwnSession) {
    let pool = service(pool, PATIENT);
    let own = OwnSession::beside(&pool, Rehearsal::None);
    (pool, own)
}

/// The process id of the session that the next call gets.
async fn session(service: impl Into<Executor<'_>>) -> i32 {
    let answer = execute(service, sqlx::query("select pg_backend_pid()")).await;
    answer.unwrap()[0].get(0)
}

/// Calls follow each other with pauses, until one gets another session.
async fn is_replaced_when_idle(service: impl Into<Connections<'_>>, session_before: i32) {
    let service = service.into();
    let since = Instant::now();
    while session(service).await == session_before {
        assert!(since.elapsed() < PATIENT, "the session is still used");
        // A session that was idle for less than 10 ms is trusted.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As after a change of the server's configuration, or a demotion.
async fn turn_read_only(service: impl Into<Executor<'_>>) {
    let set = sqlx::query("set default_transaction_read_only = on");
    execute(service, set).await.unwrap();
}

async fn create(service: &PgPool) -> Result<ProductId, Error> {
    let new = NewProduct::new("cup".to_owned(), 1, Policy::default()).unwrap();
    let created = product::create(service, &new).await?;
    Ok(created.unwrap().id)
}

async fn rename(service: &PgPool, id: ProductId) -> Result<(), Error> {
    let (name, events) = ("mug".to_owned().try_into().unwrap(), "".parse().unwrap());
    let renamed =
        product::change(service, id, Some(&name), None, &Policy::default(), &events).await;
    renamed.map(drop)
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_session_that_turns_read_only_while_idle_is_replaced(pool: PgPool) {
    let (pool, own) = both(&pool);
    for service in [Connections::from(&pool), Connections::from(&own)] {
        let before = session(service).await;
        turn_read_only(service).await;
        // Nothing is written: reads alone must not keep a session with a server that was demoted.
        is_replaced_when_idle(service, before).await;
    }
    create(&pool).await.unwrap();
}

/// A busy session is never idle for long enough to be tested.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_session_that_refuses_a_write_is_closed_at_once(pool: PgPool) {
    let service = service(&pool, PATIENT);
    let product = create(&service).await.unwrap();
    // A machine that stops for 10 ms between two calls makes one round say nothing, and not all of them.
    for _ in 0..10 {
        for in_transaction in [false, true] {
            turn_read_only(&service).await;
            let before = session(&service).await;
            let refused = if in_transaction {
                rename(&service, product).await
            } else {
                create(&service).await.map(drop)
            };
            let now = session(&service).await;
            match refused {
                Err(refused) => assert!(refused.is_read_only(), "{refused:?}"),
                // The session was tested before this call, and replaced.
                Ok(()) => continue,
            }
            assert_ne!(now, before, "in a transaction: {in_transaction}");
        }
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_new_session_that_cannot_write_is_not_used(pool: PgPool) {
    // The first session of all would also be refused because it writes.
    create(&service(&pool, PATIENT)).await.unwrap();
    let mut admin = pool.acquire().await.unwrap();
    let (name,): (String,) = sqlx::query_as("select current_database()")
        .fetch_one(&mut *admin)
        .await
        .unwrap();
    let mut set = async |value: &str| {
        let set = format!("alter database \"{name}\" set default_transaction_read_only = {value}");
        let set = AssertSqlSafe(set);
        sqlx::query(set).execute(&mut *admin).await.unwrap();
    };
    set("on").await;
    // Not even for reads: a standby may be behind.
    let service = service(&pool, Duration::from_secs(5));
    assert!(service.acquire().await.is_err());
    set("off").await;
    let since = Instant::now();
    while let Err(error) = create(&service).await {
        assert!(since.elapsed() < PATIENT, "{error:?}");
    }
}

/// Behind PgBouncer, a session stays open when its server is replaced. Ids were given out on the old server, and the new
/// one may not know all of them.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn an_idle_session_whose_server_has_another_timeline_is_replaced(pool: PgPool) {
    let mut admin = pool.acquire().await.unwrap();
    // A server does not change its timeline while it has sessions that write. This function says so all the same.
    sqlx::raw_sql(
        "create schema pooler;
        create table pooler.server (timeline integer);
        insert into pooler.server values (1);
        create function pooler.pg_walfile_name(pg_lsn) returns text language sql as
            'select lpad(to_hex(timeline), 8, ''0'') || repeat(''0'', 16) from pooler.server';
        do $$ begin
            execute format('alter database %I set search_path = pooler, public, pg_catalog', current_database());
        end $$",
    )
    .execute(&mut *admin)
    .await
    .unwrap();
    let (pool, own) = both(&pool);
    let services = [Connections::from(&pool), Connections::from(&own)];
    let mut before = [session(services[0]).await, session(services[1]).await];
    for timeline in 2..=4 {
        sqlx::query("update pooler.server set timeline = $1")
            .bind(timeline)
            .execute(&mut *admin)
            .await
            .unwrap();
        for (service, before) in services.into_iter().zip(&mut before) {
            is_replaced_when_idle(service, *before).await;
            *before = session(service).await;
            // The new session stays.
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(session(service).await, *before);
        }
    }
}

/// Replaces the current version of a verb's function by one that only writes down its name.
const RECORD_CALLS: &str = "
    create table calls (verb text);
    do $$
    declare
        verb text;
        function record;
    begin
        foreach verb in array '{reserve,expire}'::text[] loop
            select p.oid::regprocedure as signature, p.proname as name,
                (
                    select string_agg(format('%I %s', p.proargnames[a.n], a.type::regtype), ', ' order by a.n)
                    from unnest(p.proargtypes) with ordinality as a (type, n)
                ) as arguments
            into strict function
            from pg_proc p
            where p.pronamespace = current_schema()::regnamespace and p.proname ~ format('^%s_v[0-9]+$', verb);
            execute format('drop function %s', function.signature);
            execute format(
                'create function %I(%s) returns void language sql as $f$ insert into calls values (%L) $f$',
                function.name, function.arguments, verb
            );
        end loop;
    end $$";

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn new_sessions_rehearse_the_functions_of_this_release(pool: PgPool) {
    sqlx::raw_sql(RECORD_CALLS).execute(&pool).await.unwrap();
    let called = async || -> Vec<String> {
        let called = sqlx::query_scalar("delete from calls returning verb");
        called.fetch_all(&pool).await.unwrap()
    };
    session(&OwnSession::beside(&pool, Rehearsal::Expire)).await;
    assert_eq!(called().await, ["expire"]);
    session(&OwnSession::beside(&pool, Rehearsal::Reserve)).await;
    assert_eq!(called().await, ["reserve"]);
}

#[sqlx::test]
async fn without_a_schema_a_rehearsal_is_no_error(pool: PgPool) {
    for rehearsal in [Rehearsal::Expire, Rehearsal::Reserve] {
        let own = OwnSession::beside(&pool, rehearsal);
        let session = session(&own).await;
        // The end of a session is when it reports what it did.
        let end = sqlx::query("select pg_terminate_backend($1, 60000)").bind(session);
        end.execute(&pool).await.unwrap();
    }
    let since = Instant::now();
    loop {
        let (done, failed): (i64, i64) = sqlx::query_as(
            "select xact_commit, xact_rollback from pg_stat_database where datname = current_database()",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(failed, 0);
        // Of each session at least its settings, its rehearsal and the query for its process id.
        if done >= 6 {
            break;
        }
        assert!(since.elapsed() < PATIENT, "{done} transactions are known");
        tokio::task::yield_now().await;
    }
}

/// The message with which a pool tests a connection that is given back.
const SYNC: [u8; 5] = *b"S\0\0\0\x04";

/// The start of the query that tests a session of its own.
const CHECK: &[u8] = b"select not current_setting('transaction_read_only')";

/// A way to the server of `pool` on which the first message that `is_lost`, and all that follows it, is lost. Later
/// connections find the way mended. Returns settings for it.
async fn broken_way(
    pool: &PgPool,
    mut is_lost: impl FnMut(&[u8]) -> bool + Send + 'static,
) -> PgConnectOptions {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = pool.connect_options().as_ref().clone();
    let server = (options.get_host().to_owned(), options.get_port());
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server_end = TcpStream::connect(server.clone()).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server_end.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut bytes = [0; 8_192];
        loop {
            let count = from_client.read(&mut bytes).await.unwrap();
            if count == 0 || is_lost(&bytes[..count]) {
                break;
            }
            to_server.write_all(&bytes[..count]).await.unwrap();
        }
        // Both ends stay open.
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server_end = TcpStream::connect(server).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server_end).await;
        drop((from_client, to_server));
    });
    options.port(port)
}

/// A pool on this way, whose calls wait so long for a connection.
fn on_the_way(way: PgConnectOptions, acquire: Duration) -> PgPool {
    let options = PgPoolOptions::new().max_connections(1);
    options.acquire_timeout(acquire).connect_lazy_with(way)
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_server_that_vanishes_after_its_answer_does_not_keep_a_pools_only_session(pool: PgPool) {
    let way = broken_way(&pool, |bytes| bytes == SYNC).await;
    let service = database::beside(&on_the_way(way, PATIENT), 1);
    create(&service).await.unwrap();
    create(&service).await.unwrap();
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_server_that_vanishes_while_a_session_is_idle_does_not_keep_it(pool: PgPool) {
    // Behind the type and the length of the message.
    let is_check = |bytes: &[u8]| bytes.get(5..).is_some_and(|sql| sql.starts_with(CHECK));
    let way = broken_way(&pool, is_check).await;
    let own = OwnSession::beside(&on_the_way(way, PATIENT), Rehearsal::None);
    let before = session(&own).await;
    is_replaced_when_idle(&own, before).await;
}

/// The test of a connection that is given back is lost on this way, and the connection with it.
#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_session_of_its_own_is_not_given_back_between_calls(pool: PgPool) {
    let way = broken_way(&pool, |bytes| bytes == SYNC).await;
    let own = OwnSession::beside(&on_the_way(way, PATIENT), Rehearsal::None);
    let mut before = session(&own).await;
    for _ in 0..10 {
        let pause = Instant::now();
        let now = session(&own).await;
        // If the machine stops for a second, the connection is given back.
        if pause.elapsed() < Duration::from_millis(500) {
            assert_eq!(now, before);
        }
        before = now;
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_session_of_its_own_is_given_back_when_no_call_comes(pool: PgPool) {
    let (sender, mut tested) = tokio::sync::mpsc::unbounded_channel();
    let tell = move |bytes: &[u8]| {
        if bytes == SYNC {
            let _ = sender.send(());
        }
        false
    };
    let way = broken_way(&pool, tell).await;
    let own = OwnSession::beside(&on_the_way(way, PATIENT), Rehearsal::None);
    let before = session(&own).await;
    tokio::time::timeout(PATIENT, tested.recv())
        .await
        .expect("the pool tests what it is given")
        .unwrap();
    assert_eq!(session(&own).await, before);
}
