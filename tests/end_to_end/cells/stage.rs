//! Two cells, each with its own database, API and Redis keys.

use std::process::Output;

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::{System, output, test_server};

/// The first ids of the cells are this far apart.
pub(super) const IDS: i64 = 10_000_000_000_000;

pub(super) struct Cells {
    /// Cell 0.
    pub(super) old: System,
    /// Cell 1.
    pub(super) new: System,
}

/// All rows of a product, apart from those of its published events.
const ROWS: &str = "select jsonb_build_object(
    'product', (select jsonb_agg(to_jsonb(p)) from products p where id = $1),
    'reservations', (select jsonb_agg(to_jsonb(r) order by r.id) from reservations r where product_id = $1),
    'adjustments', (select jsonb_agg(to_jsonb(a) order by a.id) from stock_adjustments a where product_id = $1),
    'entries', (select jsonb_agg(to_jsonb(w) order by w.id) from waitlist_entries w where product_id = $1),
    'lines', (select jsonb_agg(to_jsonb(w)) from waitlists w where product_id = $1),
    'events', (
        select jsonb_agg(to_jsonb(e) - 'id' order by e.id) from outbox_events e
        where payload->>'product_id' = $1::text and published_at is null
    )
)";

/// What no cell has of a product.
pub(super) fn nothing() -> Value {
    json!({"product": null, "reservations": null, "adjustments": null, "entries": null, "lines": null, "events": null})
}

impl Cells {
    pub(super) async fn start(settings: &[(&str, &str)]) -> Self {
        let (old, new) = (System::with(settings).await, System::with(settings).await);
        old.database.execute("select assign_cell_v1(0)").await;
        new.database.execute("select assign_cell_v1(1)").await;
        Self { old, new }
    }

    /// The settings of the command.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DATABASE_URL", self.old.database.url.clone()),
            ("REDIS_URL", test_server("TEST_REDIS_URL")),
            ("REDIS_KEY_PREFIX", self.old.redis_prefix().to_owned()),
            ("TARGET_DATABASE_URL", self.new.database.url.clone()),
            ("TARGET_REDIS_URL", test_server("TEST_REDIS_URL")),
            (
                "TARGET_REDIS_KEY_PREFIX",
                self.new.redis_prefix().to_owned(),
            ),
        ]
    }

    /// Runs the command from the old to the new cell.
    pub(super) async fn run(&self, product: i64, more: &'static [&'static str]) -> Output {
        run(product, more, self.settings()).await
    }

    /// The same in the other direction.
    pub(super) async fn run_back(&self, product: i64) -> Output {
        let mut settings = self.settings();
        for (here, there) in [(0, 3), (2, 5)] {
            let value = settings[here].1.clone();
            settings[here].1 = std::mem::replace(&mut settings[there].1, value);
        }
        run(product, &[], settings).await
    }

    /// Moves the product.
    pub(super) async fn moves(&self, product: i64) -> String {
        let moved = self.run(product, &[]).await;
        assert!(moved.status.success(), "{moved:?}");
        said(&moved)
    }

    /// What each cell has of the product.
    pub(super) async fn rows(&self, product: i64) -> [Value; 2] {
        [
            rows(&self.old, product).await,
            rows(&self.new, product).await,
        ]
    }

    pub(super) async fn assert_clean_audits(&self) {
        self.old.assert_clean_audit().await;
        self.new.assert_clean_audit().await;
    }
}

/// In a thread of its own: the test's own tasks go on.
pub(super) async fn run(
    product: i64,
    more: &'static [&'static str],
    settings: Vec<(&'static str, String)>,
) -> Output {
    let run = move || {
        let product = product.to_string();
        let arguments = [&["move-product", &product], more].concat();
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        output("flashsale-api", &arguments, &settings)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

pub(super) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

pub(super) async fn rows(cell: &System, product: i64) -> Value {
    sqlx::query_scalar(AssertSqlSafe(ROWS))
        .bind(product)
        .fetch_one(&cell.database.pool)
        .await
        .unwrap()
}
