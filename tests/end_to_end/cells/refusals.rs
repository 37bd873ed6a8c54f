//! Moves that are refused, and nothing is done; and the ids of a cell.

use serde_json::json;

use super::stage::{Cells, IDS, nothing, run, said};
use crate::support::{Database, System, output, test_server};

/// Makes the clock of a database differ, for sessions from now on.
fn clock(ahead: &str) -> String {
    format!(
        "create function clock_timestamp() returns timestamptz language sql
            return pg_catalog.clock_timestamp() + interval '{ahead}';
        do $$ begin
            execute format('alter database %I set search_path = public, pg_catalog', current_database());
        end $$"
    )
}

const RIGHT_CLOCK: &str = "drop function public.clock_timestamp();
    do $$ begin execute format('alter database %I reset search_path', current_database()); end $$";

#[tokio::test]
async fn a_move_that_could_go_wrong_is_refused_before_it_begins() {
    let cells = Cells::start(&[]).await;
    let product = cells.old.create_product(5).await;
    cells.old.reserve(product, 1).await;
    cells
        .old
        .database
        .execute("update products set sku = 'IPH-15'")
        .await;
    let rows = cells.rows(product).await;
    // Each is undone by the second text, and the cell is put right.
    let wrong = [
        (
            "alter sequence products_id_seq no maxvalue",
            "select assign_cell_v1(1)",
            "migrate --cell NUMBER",
        ),
        (
            "alter sequence reservations_id_seq maxvalue 29999999999999",
            "select assign_cell_v1(1)",
            "migrate --cell NUMBER",
        ),
        (
            "select assign_cell_v1(0)",
            "select assign_cell_v1(1)",
            "both databases are cell 0",
        ),
        (
            "update schema_version set version = version + 1",
            "update schema_version set version = version - 1",
            "run flashsale-api migrate",
        ),
        (
            "insert into products (name, stock, total, sku) values ('mug', 1, 1, 'IPH-15')",
            "update products set sku = null",
            "products_by_sku",
        ),
    ];
    let clocks = ["60 s", "-60 s", "2 s"].map(clock);
    let clocks = clocks.each_ref().map(|spoil| {
        let reason = "the clocks of the two databases differ";
        (spoil.as_str(), RIGHT_CLOCK, reason)
    });
    for (spoil, mend, reason) in wrong.into_iter().chain(clocks) {
        cells.new.database.execute(spoil).await;
        let refused = cells.run(product, &[]).await;
        assert!(
            !refused.status.success() && said(&refused).contains(reason),
            "{spoil}: {refused:?}"
        );
        cells.new.database.execute(mend).await;
        assert_eq!(cells.rows(product).await, rows, "{spoil}");
    }
    let mut nowhere = cells.settings();
    nowhere[3].1 = "postgres://127.0.0.1:1/nowhere".to_owned();
    for (product, settings, reason) in [
        (product + 1, cells.settings(), "there is no product"),
        (product, nowhere, "the new cell: PostgreSQL does not answer"),
    ] {
        let refused = run(product, &[], settings).await;
        assert!(
            !refused.status.success() && said(&refused).contains(reason),
            "{reason}: {refused:?}"
        );
    }
    let nothing_to_undo = cells.run(product, &["--undo"]).await;
    assert!(
        said(&nothing_to_undo).contains("there is nothing to undo"),
        "{nothing_to_undo:?}"
    );
    assert_eq!(cells.rows(product).await, rows);
    // A product that is on sale nowhere comes back whatever the clocks are.
    let departs = "select depart_v1(1, gen_random_uuid(), 1)";
    cells.old.database.execute(departs).await;
    cells.new.database.execute(&clock("60 s")).await;
    let undone = cells.run(product, &["--undo"]).await;
    assert!(undone.status.success(), "{undone:?}");
    assert_eq!(cells.rows(product).await, rows);
    cells.new.database.execute(RIGHT_CLOCK).await;
    cells.moves(product).await;
}

/// A line is in the order of its ids, so it moves only to a cell whose ids are higher.
#[tokio::test]
async fn a_line_does_not_move_where_others_would_get_in_front() {
    let cells = Cells::start(&[]).await;
    let product = cells.new.create_product(1).await;
    let hold = cells.new.reserve(product, 1).await;
    let path = format!("/products/{product}/waitlist");
    cells
        .new
        .post_json(&path, &json!({"user_id": 2}))
        .await
        .expect(201);
    let rows = cells.rows(product).await;
    let refused = cells.run_back(product).await;
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("get in line before them"),
        "{refused:?}"
    );
    assert_eq!(cells.rows(product).await, rows);
    // The first in line gets the unit. Then nobody waits.
    cells.new.cancel(&hold).await;
    let moved = cells.run_back(product).await;
    assert!(moved.status.success(), "{moved:?}");
    assert_eq!(cells.rows(product).await[1], nothing());
}

#[tokio::test]
async fn migrate_gives_a_new_database_the_ids_of_its_cell() {
    let database = Database::create_empty_on(&test_server("TEST_DATABASE_URL")).await;
    let migrate = |cell: &str| {
        output(
            "flashsale-api",
            &["migrate"],
            &[("DATABASE_URL", &database.url), ("CELL", cell)],
        )
    };
    for wrong in ["-1", "900", "seven"] {
        assert!(!migrate(wrong).status.success(), "{wrong}");
    }
    for _ in 0..2 {
        let migrated = migrate("7");
        assert!(migrated.status.success(), "{migrated:?}");
        assert!(
            said(&migrated).contains("ids: those of cell 7"),
            "{migrated:?}"
        );
    }
    let url = database.url.clone();
    let system = System::spawn_on(database, &[("DATABASE_URL", &url)]).await;
    let product = system.create_product(3).await;
    assert_eq!(product, 7 * IDS + 1);
    let other = output(
        "flashsale-api",
        &["migrate", "--cell", "8"],
        &[("DATABASE_URL", &url)],
    );
    assert!(
        !other.status.success() && said(&other).contains("not of cell 8"),
        "{other:?}"
    );
    system.reserve(product, 1).await;
}
