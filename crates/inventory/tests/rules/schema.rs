//! Constraints of the schema: rows that no statement can write.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgPool};

use crate::support::Shop;

/// Each constraint, trigger and unique index, with a statement that only it refuses.
const REFUSED: [(&str, &str); 63] = [
    (
        "products_pkey",
        "insert into products (id, name, stock, total) overriding system value values (1, 'x', 1, 1)",
    ),
    ("product_name_length", "update products set name = ''"),
    (
        "product_sku_visible_ascii",
        "update products set sku = 'a b'",
    ),
    (
        "products_by_sku",
        "insert into products (name, stock, total, sku) values ('x', 1, 1, 'A'), ('y', 1, 1, 'A')",
    ),
    // Overselling by hand: one unit more than exists.
    (
        "units_not_negative",
        "update products set stock = stock - 9, held = held + 9",
    ),
    (
        "units_not_negative",
        "update products set held = held - 9, stock = stock + 9",
    ),
    (
        "units_not_negative",
        "update products set sold = sold - 9, stock = stock + 9",
    ),
    (
        "products_conserved",
        "update products set stock = stock + 1",
    ),
    (
        "reservations_active_pkey",
        "insert into reservations (id, product_id, user_id, expires_at) values (1, 1, 9, 'tomorrow')",
    ),
    (
        "reservations_ended_pkey",
        "insert into reservations (id, product_id, user_id, status, expires_at, canceled_at)
        values (2, 1, 9, 'CANCELED', 'tomorrow', 'today')",
    ),
    (
        "schema_version_one_row",
        "insert into schema_version values (1, 1)",
    ),
    ("id_epoch_one_row", "insert into id_epoch default values"),
    (
        "schema_version_order",
        "update schema_version set compatible_from = version + 1",
    ),
    (
        "installed_functions_pkey",
        "insert into installed_functions (name, source_md5) values ('x', 'x'), ('x', 'x')",
    ),
    (
        "units_not_negative",
        "update products set initial = -1",
    ),
    (
        "positive_integer",
        "update products set hold_seconds = 0",
    ),
    (
        "positive_integer",
        "update products set max_hold_seconds = 0",
    ),
    (
        "positive_integer",
        "update products set max_per_user = 0",
    ),
    (
        "products_sale_window",
        "update products set sale_starts_at = 'today', sale_ends_at = 'today'",
    ),
    (
        "stock_adjustments_pkey",
        "insert into stock_adjustments (id, product_id, delta, reason) overriding system value
        values (1, 1, 1, 'x'), (1, 1, 1, 'x')",
    ),
    (
        "stock_adjustments_product",
        "insert into stock_adjustments (product_id, delta, reason) values (9, 1, 'x')",
    ),
    (
        "stock_adjustments_delta_not_zero",
        "insert into stock_adjustments (product_id, delta, reason) values (1, 0, 'x')",
    ),
    (
        "stock_adjustments_reason_length",
        "insert into stock_adjustments (product_id, delta, reason) values (1, 1, '')",
    ),
    (
        "reservation_reference_length",
        "update reservations set reference = repeat('x', 129)",
    ),
    // A return without its time, and a time without a return.
    (
        "reservations_ended_returned",
        "update reservations set status = 'RETURNED' where status = 'CONFIRMED'",
    ),
    (
        "reservations_ended_returned",
        "update reservations set returned_at = now() where status = 'CONFIRMED'",
    ),
    (
        "reservations_active_not_ended",
        "update reservations set returned_at = now() where status = 'ACTIVE'",
    ),
    (
        "reservations_ended_reacquired_once",
        "insert into reservations (product_id, user_id, status, expires_at, canceled_at, reacquired_from)
        select 1, 9, 'CANCELED', 'tomorrow', 'today', 7 from generate_series(1, 2)",
    ),
    // A hold is enough, and so is a sale.
    (
        "products_keep",
        "delete from reservations_ended; delete from products",
    ),
    (
        "products_keep",
        "delete from reservations_active; delete from products",
    ),
    ("products_keep_all", "truncate products cascade"),
    (
        "positive_bigint",
        "insert into reservations (product_id, user_id, expires_at) values (1, 0, 'tomorrow')",
    ),
    (
        "positive_integer",
        "update reservations set quantity = 0",
    ),
    // An end without its time, a time without its end, and two ends.
    (
        "reservations_ended_once",
        "update reservations set status = 'CANCELED' where status = 'ACTIVE'",
    ),
    (
        "reservations_active_not_ended",
        "update reservations set expired_at = expires_at",
    ),
    (
        "reservations_ended_once",
        "update reservations set status = 'CANCELED', canceled_at = now(), expired_at = now()",
    ),
    (
        "reservations_active_one_per_user",
        "insert into reservations (product_id, user_id, expires_at) values (1, 1, 'tomorrow')",
    ),
    (
        "outbox_events_pkey",
        "insert into outbox_events (id, event_type, payload) overriding system value
        values (1, 'x', '{}')",
    ),
    (
        "outbox_events_attempts_not_negative",
        "update outbox_events set attempts = -1",
    ),
    (
        "outbox_events_one_end",
        "update outbox_events set published_at = now(), dead_at = now()",
    ),
    (
        "idempotency_keys_pkey",
        "insert into idempotency_keys (client, key, fingerprint)
        select client, key, fingerprint from idempotency_keys",
    ),
    (
        "idempotency_keys_key_length",
        "update idempotency_keys set key = repeat('x', 256)",
    ),
    (
        "idempotency_keys_fingerprint_length",
        "update idempotency_keys set fingerprint = '\\x00'",
    ),
    (
        "idempotency_keys_status_kept",
        "update idempotency_keys set status = 503",
    ),
    (
        "idempotency_keys_whole_answer",
        "update idempotency_keys set body = null",
    ),
    (
        "units_not_negative",
        "update products set total = -1",
    ),
    (
        "processes_pkey",
        "insert into processes (instance, role, report, started_at)
        values ('x', 'api', '{}', now()), ('x', 'api', '{}', now())",
    ),
    (
        "processes_role_known",
        "insert into processes (instance, role, report, started_at) values ('x', 'x', '{}', now())",
    ),
    (
        "waitlist_entries_pkey",
        "insert into waitlist_entries (id, product_id, user_id, quantity, hold_seconds) overriding system value
        values (1, 1, 9, 1, 1)",
    ),
    (
        "waitlist_entries_product",
        "insert into waitlist_entries (product_id, user_id, quantity, hold_seconds) values (9, 9, 1, 1)",
    ),
    (
        "waitlist_entries_status_known",
        "update waitlist_entries set status = 'PENDING', ended_at = now() where status = 'WAITING'",
    ),
    (
        "waitlist_entries_ended",
        "update waitlist_entries set ended_at = now() where status = 'WAITING'",
    ),
    (
        "waitlist_entries_offered",
        "update waitlist_entries set reservation_id = 9 where status = 'WAITING'",
    ),
    (
        "waitlist_entries_one_per_user",
        "insert into waitlist_entries (product_id, user_id, quantity, hold_seconds) values (1, 3, 1, 1)",
    ),
    (
        "waitlist_entries_one_per_reservation",
        "insert into waitlist_entries (product_id, user_id, quantity, hold_seconds, status, reservation_id, ended_at)
        values (1, 4, 1, 1, 'OFFERED', 1, now())",
    ),
    ("waitlists_pkey", "insert into waitlists values (1)"),
    ("waitlists_product", "insert into waitlists values (9)"),
    (
        "waitlists_offered_not_negative",
        "update waitlists set offered = -1",
    ),
    (
        "product_moves_pkey",
        "insert into product_moves (id, product_id, status, to_cell) select id, 1, 'ARRIVED', 1 from product_moves",
    ),
    (
        "product_moves_status_known",
        "update product_moves set status = 'LOST', parcel = null",
    ),
    (
        "product_moves_parcel",
        "update product_moves set parcel = null",
    ),
    (
        "product_moves_one_departure",
        "insert into product_moves (id, product_id, status, to_cell, parcel)
        select gen_random_uuid(), product_id, status, to_cell, parcel from product_moves",
    ),
    (
        "moved_reservations_pkey",
        "insert into moved_reservations values (7, 7), (7, 7)",
    ),
];

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn every_named_constraint_refuses_what_it_is_there_for(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(5).await;
    let [active, sale] = [
        shop.hold(product, 1).await.id,
        shop.hold(product, 2).await.id,
    ];
    shop.confirm(&[sale]).await;
    sqlx::query(
        "insert into idempotency_keys (client, key, fingerprint, status, body)
        values ('', 'x', sha256(''), 200, '')",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    assert_eq!((product.get(), active.get()), (1, 1));
    sqlx::raw_sql(
        "insert into waitlist_entries (product_id, user_id, quantity, hold_seconds, status, reservation_id, ended_at)
        values (1, 1, 1, 1, 'OFFERED', 1, now()), (1, 3, 9, 1, 'WAITING', null, null);
        insert into waitlists (product_id) values (1);
        update products set waiting = 1;
        insert into product_moves (id, product_id, status, to_cell, parcel)
        values (gen_random_uuid(), 7, 'DEPARTED', 1, '{}')",
    )
    .execute(&shop.pool)
    .await
    .unwrap();

    for (constraint, statement) in REFUSED {
        let refusal = sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&shop.pool)
            .await
            .expect_err(statement)
            .into_database_error()
            .unwrap();
        assert_eq!(
            refusal.constraint(),
            Some(constraint),
            "{statement}: {refusal}"
        );
    }
    // No partition takes an unknown status.
    for statement in [
        "update reservations set status = 'PENDING', canceled_at = now()",
        "insert into reservations (product_id, user_id, status, expires_at, canceled_at)
        values (1, 9, 'PENDING', 'tomorrow', 'today')",
    ] {
        let refusal = sqlx::raw_sql(statement).execute(&shop.pool).await;
        let refusal = refusal.expect_err(statement).into_database_error().unwrap();
        assert_eq!(refusal.code().as_deref(), Some("23514"), "{statement}");
    }
    shop.assert_sound().await;

    let named: Vec<String> = sqlx::query_scalar(
        "select conname::text from pg_constraint k join pg_class c on c.oid = k.conrelid
        where c.relnamespace = current_schema()::regnamespace and k.contype <> 'n'
            and c.relname <> '_sqlx_migrations'
        union
        select conname::text from pg_constraint k join pg_type t on t.oid = k.contypid
        where t.typnamespace = current_schema()::regnamespace
        union
        select indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid
        where c.relnamespace = current_schema()::regnamespace and i.indisunique
            and c.relname <> '_sqlx_migrations'
        union
        select tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where c.relnamespace = current_schema()::regnamespace and not t.tgisinternal
            and t.tgname <> 'products_initial' -- it refuses nothing",
    )
    .fetch_all(&shop.pool)
    .await
    .unwrap();
    let named: BTreeSet<_> = named.iter().map(String::as_str).collect();
    assert_eq!(
        named,
        REFUSED.iter().map(|(constraint, _)| *constraint).collect()
    );
}
