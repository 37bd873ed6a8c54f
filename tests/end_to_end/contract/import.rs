//! `flashsale-api import`: products from a file.

use std::{fmt::Write as _, fs, process::Output};

use serde_json::{Value, json};

use crate::support::{Database, Folder, System, eventually, output};

fn import(system: &System, folder: &Folder, text: &str, more: &[&str]) -> Output {
    let file = folder.path().join("products");
    fs::write(&file, text).unwrap();
    let arguments = [&["import", file.to_str().unwrap()], more].concat();
    output(
        "flashsale-api",
        &arguments,
        &[("DATABASE_URL", &system.database.url)],
    )
}

fn said(output: &Output) -> (&str, &str) {
    let text = |bytes| str::from_utf8(bytes).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

async fn products(system: &System) -> Value {
    system.get("/products").await.expect(200)
}

const FILE: &str = "sku,name,stock,hold_seconds,max_per_user,sale_starts_at,sale_ends_at\n\
    MUG,mug,5,60,2,2026-01-01T00:00:00Z,2036-01-01T00:00:00Z\n\
    CUP,\"cup, blue\",7,,,,\n";

#[tokio::test]
async fn a_file_makes_what_is_new_and_changes_what_differs() {
    let (system, folder) = (System::start().await, Folder::new());
    let dry = import(&system, &folder, FILE, &["--dry-run"]);
    assert_eq!(said(&dry).0, "created MUG\ncreated CUP\n");
    assert!(
        said(&dry)
            .1
            .contains("2 products created, 0 changed, 0 unchanged; nothing was written")
    );
    assert_eq!(products(&system).await, json!([]));

    let first = import(&system, &folder, FILE, &[]);
    assert!(first.status.success(), "{first:?}");
    assert_eq!(
        said(&first).0,
        "created MUG as product 1\ncreated CUP as product 2\n"
    );
    let made = products(&system).await;
    assert_eq!(
        (&made[0]["sku"], &made[0]["hold_seconds"]),
        (&json!("MUG"), &json!(60))
    );
    assert_eq!(
        (&made[1]["name"], &made[1]["stock"]),
        (&json!("cup, blue"), &json!(7))
    );
    system.reserve(1, 1).await;
    let before = products(&system).await;
    let again = import(&system, &folder, FILE, &[]);
    assert_eq!(
        said(&again).0,
        "unchanged MUG, product 1\nunchanged CUP, product 2\n"
    );
    assert_eq!(products(&system).await, before);

    let lines = "{\"sku\":\"CUP\",\"stock\":9,\"max_per_user\":1}\n{\"sku\":\"FORK\",\"name\":\"fork\",\"stock\":1}\n";
    let changed = import(&system, &folder, lines, &[]);
    let (out, errors) = said(&changed);
    assert_eq!(
        out, "changed CUP, product 2: stock, max_per_user\ncreated FORK as product 3\n",
        "{errors}"
    );
    let now = products(&system).await;
    assert_eq!(
        (&now[1]["name"], &now[1]["stock"]),
        (&json!("cup, blue"), &json!(9))
    );
    assert_eq!((&now[0], now.as_array().unwrap().len()), (&before[0], 3));
    system.assert_clean_audit().await;
}

#[tokio::test]
async fn nothing_is_written_if_one_row_is_wrong() {
    let (system, folder) = (System::start().await, Folder::new());
    import(&system, &folder, FILE, &[]);
    system.reserve(1, 1).await;
    system.reserve(1, 2).await;
    let before = products(&system).await;
    for (text, wrong) in [
        (
            "sku,name,stock\nNEW,x,1\nBAD,x,-1\nWORSE,,1,1\n",
            &["line 3: stock must be", "line 4: "][..],
        ),
        (
            "sku,name,stock\nNEW,x,1\nNEW,y,1\n",
            &["line 3: NEW is in line 2, too"],
        ),
        (
            "sku,name,stock\nNEW,x,1\nMUG,mug,1\n",
            &["line 3: MUG: stock is lower"],
        ),
        (
            "sku,stock\nNEW,1\nCUP,3\n",
            &["line 2: NEW: the product is new"],
        ),
        (
            "sku,sale_ends_at\nMUG,2025-01-01T00:00:00Z\n",
            &["line 2: MUG: sale_ends_at must be later"],
        ),
        ("name,stock\nx,1\n", &["line 1: the column sku is missing"]),
        (
            "{\"sku\":\"NEW\",\"name\":\"x\",\"stock\":1}\n{\"sku\":7}\n",
            &["line 2: /sku"],
        ),
    ] {
        let refused = import(&system, &folder, text, &[]);
        let (out, errors) = said(&refused);
        assert!(!refused.status.success() && out.is_empty(), "{text}: {out}");
        for wrong in wrong {
            assert!(errors.contains(wrong), "{text}: {errors}");
        }
        assert_eq!(products(&system).await, before);
    }
    let nowhere = output("flashsale-api", &["import", "/nowhere"], &[]);
    assert!(!nowhere.status.success() && said(&nowhere).1.contains("cannot read /nowhere"));
}

/// A long file shows its progress, and is written in many calls.
#[tokio::test]
async fn a_long_file_is_imported_as_well() {
    const ROWS: usize = 12_345;
    let (system, folder) = (System::start().await, Folder::new());
    let mut text = "sku,name,stock\n".to_owned();
    for row in 0..ROWS {
        writeln!(text, "SKU-{row},product {row},{}", row % 50).unwrap();
    }
    let made = import(&system, &folder, &text, &[]);
    let (out, errors) = said(&made);
    assert_eq!(out.lines().count(), ROWS);
    assert!(out.lines().all(|line| line.starts_with("created SKU-")));
    for line in [
        "10000 of 12345 rows checked",
        "10000 of 12345 rows written",
        "12345 products created",
    ] {
        assert!(errors.contains(line), "{errors}");
    }
    let again = import(&system, &folder, &text, &[]);
    assert!(
        said(&again)
            .1
            .contains("0 products created, 0 changed, 12345 unchanged")
    );
    let stored: i64 =
        sqlx::query_scalar("select count(*) from products where sku = 'SKU-' || substr(name, 9)")
            .fetch_one(&system.database.pool)
            .await
            .unwrap();
    assert_eq!(stored, ROWS as i64);
}

/// A cron job without `OUTBOX_EVENTS`: consumers hear of its offers nevertheless.
#[tokio::test]
async fn an_import_writes_the_events_that_the_processes_write() {
    let settings = ("OUTBOX_EVENTS", "WaitlistOffered,StockAdjusted");
    let (system, folder) = (System::with(&[settings]).await, Folder::new());
    eventually("a heartbeat", async || {
        let told = "select report->>'events' from processes where role = 'api'";
        let told: Option<Option<String>> = sqlx::query_scalar(told)
            .fetch_optional(&system.database.pool)
            .await
            .unwrap();
        told.flatten()
    })
    .await;
    import(&system, &folder, "sku,name,stock\nMUG,mug,0\n", &[]);
    let waits = json!({"sku": "MUG", "user_id": 1});
    system.post_json("/waitlist", &waits).await.expect(201);
    let added = import(&system, &folder, "sku,stock\nMUG,1\n", &[]);
    assert!(!said(&added).1.contains("OUTBOX_EVENTS"), "{added:?}");
    let told: Vec<String> = sqlx::query_scalar("select event_type from outbox_events order by id")
        .fetch_all(&system.database.pool)
        .await
        .unwrap();
    assert_eq!(told, ["StockAdjusted", "WaitlistOffered"]);
}

/// Nobody can say which events consumers want, so the command says which it writes.
#[tokio::test]
async fn an_import_before_the_processes_run_says_which_events_it_writes() {
    let (database, folder) = (Database::create().await, Folder::new());
    let file = folder.path().join("products.csv");
    fs::write(&file, FILE).unwrap();
    let arguments = ["import", file.to_str().unwrap()];
    let settings = [
        ("DATABASE_URL", &*database.url),
        ("OUTBOX_EVENTS", "ReservationConfirmed,StockAdjusted"),
    ];
    let imported = output("flashsale-api", &arguments, &settings);
    assert!(imported.status.success(), "{imported:?}");
    let wanted = "OUTBOX_EVENTS of this command says (ReservationConfirmed,StockAdjusted)";
    assert!(said(&imported).1.contains(wanted), "{imported:?}");
}
