//! A live page that shows something wrong.

use super::*;
use crate::chaos::history::{Shown, View};

/// A viewer gets a state and then ticks, and the same once more on another connection.
fn watch(history: &mut History) -> &mut Vec<Shown> {
    let row = history.stored.products[0].clone();
    let before = Product {
        held: row.held + 1,
        stock: row.stock - 1,
        ..row.clone()
    };
    history.viewers = vec![vec![
        shown(0, None, view(1, Some(before))),
        shown(0, None, view(2, None)),
        shown(1, Some("a-2"), view(3, Some(row))),
    ]];
    &mut history.viewers[0]
}

/// The first message is a state.
fn view(number: u64, product: Option<Product>) -> View {
    View {
        epoch: "a".to_owned(),
        number,
        whole: number == 1,
        alerts: Vec::new(),
        clean: Some(true),
        products: product.into_iter().collect(),
        waiting_events: 0,
        dead_events: 0,
    }
}

fn shown(connection: usize, after: Option<&str>, view: View) -> Shown {
    Shown {
        at: 20_000_000 + view.number as Micros,
        connection,
        after: after.map(str::to_owned),
        message: Ok(view),
    }
}

fn alert(code: &str) -> (String, String) {
    (code.to_owned(), String::new())
}

fn change(shown: &mut Shown, change: impl FnOnce(&mut View)) {
    if let Ok(view) = &mut shown.message {
        change(view);
    }
}

#[test]
fn a_true_view_is_allowed() {
    allowed(|history| _ = watch(history));
    // An alarm that is over. Its kind is not checked.
    allowed(|history| {
        change(&mut watch(history)[1], |view| {
            view.alerts.push(alert("redis_down"));
            view.waiting_events = 7;
        });
    });
    // Another process, which does not know the earlier messages.
    allowed(|history| {
        change(&mut watch(history)[2], |view| {
            view.epoch = "b".to_owned();
            view.whole = true;
        });
    });
}

#[test]
fn no_message_at_all() {
    caught(Promise::TrueView, |history| {
        watch(history)[1].message = Err("data: {".to_owned());
    });
    caught(Promise::TrueView, |history| {
        history.viewers = vec![Vec::new()];
    });
    // No message since the end.
    caught(Promise::TrueView, |history| {
        watch(history)
            .iter_mut()
            .for_each(|one| one.at = 19_000_000);
    });
}

#[test]
fn a_message_that_was_left_out_or_came_again() {
    for number in [1, 2, 4] {
        caught(Promise::TrueView, |history| {
            change(&mut watch(history)[2], |view| view.number = number);
        });
    }
    caught(Promise::TrueView, |history| {
        change(&mut watch(history)[2], |view| view.epoch = "b".to_owned());
    });
    // A tick for a viewer without a previous message.
    caught(Promise::TrueView, |history| watch(history)[2].after = None);
    caught(Promise::TrueView, |history| {
        change(&mut watch(history)[0], |view| view.whole = false);
    });
}

#[test]
fn a_false_alarm() {
    for code in ["inventory_inconsistent", "events_dead"] {
        caught(Promise::TrueView, |history| {
            change(&mut watch(history)[1], |view| view.alerts.push(alert(code)));
        });
    }
    caught(Promise::TrueView, |history| {
        change(&mut watch(history)[1], |view| view.clean = Some(false));
    });
    caught(Promise::Conservation, |history| {
        change(&mut watch(history)[0], |view| view.products[0].stock += 1);
    });
}

/// A true alarm is reported for the guarantee that is broken, not as a false alarm.
#[test]
fn a_true_alarm() {
    let mut history = clean();
    change(&mut watch(&mut history)[1], |view| {
        view.alerts.push(alert("inventory_inconsistent"))
    });
    history.stored.products[0].sold += 1;
    history.stored.products[0].total += 1;
    let row = history.stored.products[0].clone();
    change(&mut history.viewers[0][2], |view| view.products = vec![row]);
    let found = check(&history);
    assert!(found.iter().any(|one| one.promise == Promise::Conservation));
    assert!(
        found.iter().all(|one| one.promise != Promise::TrueView),
        "{found:#?}"
    );
}

#[test]
fn what_is_not_well_in_the_end() {
    let wrong: [fn(&mut View); 4] = [
        |view| view.alerts.push(alert("process_lost")),
        |view| view.waiting_events = 1,
        // Still the first products, or a product that does not exist.
        |view| view.products.clear(),
        |view| view.products[0].id = 2,
    ];
    for wrong in wrong {
        caught(Promise::TrueView, |history| {
            change(&mut watch(history)[2], wrong)
        });
    }
}
