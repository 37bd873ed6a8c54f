//! A move that is interrupted in each of its steps. The product is never on sale in two cells, and never lost.

use serde_json::Value;
use sqlx::{Postgres, Transaction};

use super::stage::{Cells, nothing, said};
use crate::support::{Child, Log, System, eventually, id, start_with};

/// Where a move stops.
#[derive(Clone, Copy, Debug)]
struct Stop {
    /// In the old cell, or in the new one.
    cell: usize,
    /// When the trigger fails.
    when: &'static str,
    on_sale: OnSale,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum OnSale {
    InOld,
    Nowhere,
    InNew,
}

const STOPS: [Stop; 8] = [
    // Before the old cell's commit: while the new one takes the ended reservations, packs, or unpacks.
    Stop {
        cell: 1,
        when: "before insert on product_moves",
        on_sale: OnSale::InOld,
    },
    Stop {
        cell: 1,
        when: "before insert on reservations_ended",
        on_sale: OnSale::InOld,
    },
    Stop {
        cell: 0,
        when: "before delete on reservations_active",
        on_sale: OnSale::InOld,
    },
    Stop {
        cell: 1,
        when: "before insert on reservations_active",
        on_sale: OnSale::InOld,
    },
    Stop {
        cell: 0,
        when: "at commit",
        on_sale: OnSale::InOld,
    },
    // Between the two commits.
    Stop {
        cell: 1,
        when: "at commit",
        on_sale: OnSale::Nowhere,
    },
    // After both.
    Stop {
        cell: 0,
        when: "before update on product_moves",
        on_sale: OnSale::InNew,
    },
    Stop {
        cell: 0,
        when: "before delete on reservations_ended",
        on_sale: OnSale::InNew,
    },
];

impl Stop {
    fn of(self, cells: &Cells) -> &System {
        [&cells.old, &cells.new][self.cell]
    }

    async fn set(self, cells: &Cells) {
        let trigger = match self.when {
            "at commit" => "create constraint trigger stop after insert on product_moves deferrable initially deferred
                for each row execute function stop()"
                .to_owned(),
            when => format!("create trigger stop {when} for each row execute function stop()"),
        };
        let function = "create function stop() returns trigger language plpgsql as $$
            begin raise 'stopped within %', current_setting('statement_timeout'); end $$";
        self.of(cells)
            .database
            .execute(&format!("{function}; {trigger}"))
            .await;
    }

    async fn clear(self, cells: &Cells) {
        self.of(cells)
            .database
            .execute("drop function stop() cascade")
            .await;
    }
}

struct Sale {
    product: i64,
    held: Value,
    sold: Value,
}

async fn sale(cell: &System) -> Sale {
    let product = cell.create_product(9).await;
    let [held, sold] = [
        cell.reserve(product, 1).await,
        cell.reserve(product, 2).await,
    ];
    cell.confirm(&sold).await;
    Sale {
        product,
        held,
        sold,
    }
}

/// Exactly this cell sells. The other one refuses, and takes no hold for unknown.
async fn is_on_sale(cells: &Cells, sale: &Sale, on_sale: OnSale) {
    let (old, new) = (&cells.old, &cells.new);
    let in_old = old.try_reserve(sale.product, 7).await;
    let in_new = new.try_reserve(sale.product, 7).await;
    let by_id = old.try_confirm(&sale.held).await;
    match on_sale {
        OnSale::InOld => {
            old.cancel(&in_old.expect(201)).await;
            in_new.expect_problem(404, "product_not_found");
            by_id.expect(200);
            old.post(&format!("/reservations/{}/return", id(&sale.held)))
                .await
                .expect(200);
        }
        OnSale::Nowhere => {
            in_old.expect_problem(503, "overloaded");
            by_id.expect_problem(503, "overloaded");
            in_new.expect_problem(404, "product_not_found");
        }
        OnSale::InNew => {
            // The old cell says so once the move is finished.
            assert!([421, 503].contains(&in_old.status.as_u16()), "{in_old:?}");
            assert!([421, 503].contains(&by_id.status.as_u16()), "{by_id:?}");
            new.cancel(&in_new.expect(201)).await;
        }
    }
    cells.assert_clean_audits().await;
}

async fn is_in_new(cells: &Cells, sale: &Sale) {
    let [in_old, _] = cells.rows(sale.product).await;
    assert_eq!(in_old, nothing());
    let hold = cells.new.reserve(sale.product, 8).await;
    cells.new.cancel(&hold).await;
    assert_eq!(cells.new.look_up(&sale.sold).await["status"], "CONFIRMED");
    for hold in [&sale.held, &sale.sold] {
        cells
            .old
            .try_confirm(hold)
            .await
            .expect_problem(421, "product_moved");
    }
    cells.assert_clean_audits().await;
}

#[tokio::test]
async fn after_a_stop_in_any_step_the_same_command_goes_on() {
    let cells = Cells::start(&[]).await;
    for stop in STOPS {
        let sale = sale(&cells.old).await;
        stop.set(&cells).await;
        let stopped = cells.run(sale.product, &[]).await;
        assert!(
            !stopped.status.success() && said(&stopped).contains("stopped"),
            "{stop:?}: {stopped:?}"
        );
        let wanted = match stop.on_sale {
            OnSale::InOld if stop.when == "at commit" => "has not confirmed",
            OnSale::InOld => "nothing was done",
            OnSale::Nowhere => "THE PRODUCT IS ON SALE NOWHERE",
            OnSale::InNew => "on sale in the new cell",
        };
        assert!(said(&stopped).contains(wanted), "{stop:?}: {stopped:?}");
        // Requests wait for the old cell's transaction, so a slow statement of it is given up; but not its commit.
        let is_limited = stop.when == "before delete on reservations_active";
        let limit = ["stopped within 0", "stopped within 5s"][usize::from(is_limited)];
        assert!(said(&stopped).contains(limit), "{stop:?}: {stopped:?}");
        // As long as the cause lasts, nothing gets worse.
        if stop.on_sale != OnSale::Nowhere {
            let undone = cells.run(sale.product, &["--undo"]).await;
            assert!(!undone.status.success(), "{stop:?}: {undone:?}");
        }
        assert!(!cells.run(sale.product, &[]).await.status.success());
        if stop.on_sale == OnSale::InOld {
            stop.clear(&cells).await;
            is_on_sale(&cells, &sale, stop.on_sale).await;
        } else {
            is_on_sale(&cells, &sale, stop.on_sale).await;
            stop.clear(&cells).await;
        }
        if stop.on_sale == OnSale::InNew {
            // The old cell may not know yet that it has arrived.
            let undone = cells.run(sale.product, &["--undo"]).await;
            assert!(!undone.status.success(), "{stop:?}: {undone:?}");
            is_on_sale(&cells, &sale, stop.on_sale).await;
        }
        cells.moves(sale.product).await;
        is_in_new(&cells, &sale).await;
    }
    // Once more does nothing.
    let sale = sale(&cells.old).await;
    cells.moves(sale.product).await;
    let again = cells.moves(sale.product).await;
    assert!(again.contains("it had arrived before; 0 ended"), "{again}");
    is_in_new(&cells, &sale).await;
}

#[tokio::test]
async fn a_product_on_its_way_can_stay_instead() {
    let cells = Cells::start(&[]).await;
    let (sale, between) = (sale(&cells.old).await, STOPS[5]);
    let [before, _] = cells.rows(sale.product).await;
    between.set(&cells).await;
    cells.run(sale.product, &[]).await;
    is_on_sale(&cells, &sale, OnSale::Nowhere).await;
    // The new cell cannot be asked whether the product has arrived, so it is not put on sale.
    let refused = cells.run(sale.product, &["--undo"]).await;
    assert!(!refused.status.success(), "{refused:?}");
    is_on_sale(&cells, &sale, OnSale::Nowhere).await;
    between.clear(&cells).await;
    // Another cell does not know whether it has arrived.
    cells
        .old
        .database
        .execute("update product_moves set to_cell = 2")
        .await;
    for more in [&[][..], &["--undo"]] {
        let refused = cells.run(sale.product, more).await;
        assert!(
            !refused.status.success() && said(&refused).contains("on its way to cell 2"),
            "{refused:?}"
        );
    }
    cells
        .old
        .database
        .execute("update product_moves set to_cell = 1")
        .await;
    is_on_sale(&cells, &sale, OnSale::Nowhere).await;

    // Interrupted after the new cell has agreed: the move cannot go on any more, the way back can.
    let halfway = Stop {
        cell: 0,
        when: "before update on product_moves",
        on_sale: OnSale::Nowhere,
    };
    halfway.set(&cells).await;
    assert!(!cells.run(sale.product, &["--undo"]).await.status.success());
    halfway.clear(&cells).await;
    let undone = cells.run(sale.product, &[]).await;
    assert!(
        !undone.status.success() && said(&undone).contains("run the command with --undo"),
        "{undone:?}"
    );
    is_on_sale(&cells, &sale, OnSale::Nowhere).await;

    let back = cells.run(sale.product, &["--undo"]).await;
    assert!(back.status.success(), "{back:?}");
    assert_eq!(cells.rows(sale.product).await, [before, nothing()]);
    is_on_sale(&cells, &sale, OnSale::InOld).await;
    cells.moves(sale.product).await;
    let late = cells.run(sale.product, &["--undo"]).await;
    assert!(!late.status.success(), "{late:?}");
    is_in_new(&cells, &sale).await;
}

/// A command that has committed in the old cell. Its commit in the new one waits for the gate.
async fn at_gate(cells: &Cells, product: i64) -> (Child, Transaction<'static, Postgres>) {
    cells
        .new
        .database
        .execute(
            "create table gate ();
            create function wait_at_gate() returns trigger language plpgsql as
                $$ begin lock table gate in access share mode; return null; end $$;
            create constraint trigger gated after insert on product_moves
                deferrable initially deferred for each row execute function wait_at_gate()",
        )
        .await;
    let mut gate = cells.new.database.pool.begin().await.unwrap();
    sqlx::query("lock table gate")
        .execute(&mut *gate)
        .await
        .unwrap();
    let settings = cells.settings();
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let product = product.to_string();
    let command = start_with(
        "flashsale-api",
        &["move-product", &product],
        &settings,
        Log::Shown,
    );
    cells.new.database.calls_wait_for_locks(1).await;
    (command, gate)
}

/// The process is killed while the new cell commits. PostgreSQL may finish that commit all the same.
#[tokio::test]
async fn a_killed_command_leaves_nothing_open() {
    let cells = Cells::start(&[]).await;
    let sale = sale(&cells.old).await;
    let (mut command, gate) = at_gate(&cells, sale.product).await;
    command.kill();
    is_on_sale(&cells, &sale, OnSale::Nowhere).await;
    gate.rollback().await.unwrap();
    eventually("the end of the commit", async || {
        let open: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and state <> 'idle'
                and application_name = 'flashsale-api move-product'",
        )
        .fetch_one(&cells.new.database.pool)
        .await
        .unwrap();
        (open == 0).then_some(())
    })
    .await;
    // Either way there is one product.
    let in_new = cells.new.try_reserve(sale.product, 7).await.status;
    let undone = cells.run(sale.product, &["--undo"]).await;
    assert_eq!(undone.status.success(), in_new == 404, "{undone:?}");
    cells.moves(sale.product).await;
    cells.assert_clean_audits().await;
    assert_eq!(cells.rows(sale.product).await[0], nothing());
}

/// Whatever several people do at once, one cell has the product.
#[tokio::test]
async fn several_commands_at_once_leave_one_product() {
    let cells = Cells::start(&[]).await;
    let between = STOPS[5];
    for _ in 0..3 {
        let sale = sale(&cells.old).await;
        let product = sale.product;
        let [before, _] = cells.rows(product).await;
        between.set(&cells).await;
        cells.run(product, &[]).await;
        between.clear(&cells).await;
        tokio::join!(
            cells.run(product, &[]),
            cells.run(product, &["--undo"]),
            cells.run(product, &[]),
            cells.run(product, &["--undo"]),
        );
        let [in_old, in_new] = cells.rows(product).await;
        let has = |rows: &Value| rows["product"].is_array();
        assert!(!(has(&in_old) && has(&in_new)), "{in_old} {in_new}");
        // What was begun is ended, one way or the other.
        if !has(&in_old) && !has(&in_new) {
            cells.run(product, &["--undo"]).await;
        }
        cells.moves(product).await;
        assert_eq!(cells.rows(product).await, [nothing(), before]);
        is_in_new(&cells, &sale).await;
    }
}

/// The process is frozen before it finishes the move in the old cell. Meanwhile the product comes back, and leaves again.
#[tokio::test]
async fn a_late_end_of_a_move_leaves_the_next_one_alone() {
    let cells = Cells::start(&[]).await;
    let sale = sale(&cells.old).await;
    let (mut command, gate) = at_gate(&cells, sale.product).await;
    command.freeze();
    gate.rollback().await.unwrap();
    eventually("the arrival", async || {
        let [_, in_new] = cells.rows(sale.product).await;
        in_new["product"].is_array().then_some(())
    })
    .await;
    cells.moves(sale.product).await;
    let back = cells.run_back(sale.product).await;
    assert!(back.status.success(), "{back:?}");
    let [before, _] = cells.rows(sale.product).await;
    let departs = format!("select depart_v1({}, gen_random_uuid(), 1)", sale.product);
    cells.old.database.execute(&departs).await;
    command.thaw();
    assert!(command.ends().await.success());
    let on_its_way = cells.old.try_reserve(sale.product, 7).await;
    on_its_way.expect_problem(503, "overloaded");
    let undone = cells.run(sale.product, &["--undo"]).await;
    assert!(undone.status.success(), "{undone:?}");
    assert_eq!(cells.rows(sale.product).await[0], before);
    cells.moves(sale.product).await;
    is_in_new(&cells, &sale).await;
}
