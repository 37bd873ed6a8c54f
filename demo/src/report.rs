//! The output of a demo, and its checks.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::Context as _;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    catalog::{ITEMS, Times},
    journal::{Entries, Sold, Tally},
    settings::Settings,
    shopper::Outcome,
};

/// A product, as the API shows it.
#[derive(Clone)]
pub(crate) struct Stand {
    id: i64,
    name: String,
    total: i64,
    sold: i64,
    stock: i64,
    pub(crate) held: i64,
}

impl Stand {
    pub(crate) fn read(product: &Value) -> anyhow::Result<Self> {
        let number = |name| {
            let number = product[name].as_i64();
            number.with_context(|| format!("a product without {name}: {product}"))
        };
        Ok(Self {
            id: number("id")?,
            name: product["name"].as_str().unwrap_or_default().to_owned(),
            total: number("total")?,
            sold: number("sold")?,
            stock: number("stock")?,
            held: number("held")?,
        })
    }
}

pub(crate) fn opening(settings: &Settings, times: Times) -> String {
    format!(
        "Watch it: {}/\n\
        {} shoppers, {} products, holds of {} s; one product opens after {} s, and all is over after {} s.\n\
        Ctrl-C stops it early. To repeat it with the same shoppers: SEED={}\n\n",
        settings.url,
        settings.shoppers,
        ITEMS.len(),
        times.hold.as_secs(),
        times.second_opening.as_secs(),
        times.end.as_secs(),
        settings.seed,
    )
}

/// The header of the progress lines.
pub(crate) fn head() -> String {
    let heads = [
        "arrived",
        "reserved/s",
        "reserved",
        "held",
        "confirmed",
        "canceled",
        "expired",
        "refused",
    ];
    let heads: String = heads.iter().map(|head| format!("{head:>11}")).collect();
    format!("   time{heads}\n")
}

/// A progress line, by the shoppers' answers.
pub(crate) fn line(at: Duration, entries: &Entries, tally: &Tally, rate: f64) -> String {
    let refused: usize = entries.refusals.values().sum();
    format!(
        "{:>5} s{:>11}{rate:>11.0}{:>11}{:>11}{:>11}{:>11}{:>11}{refused:>11}\n",
        at.as_secs(),
        entries.arrived,
        tally.reserved,
        tally.held,
        tally.confirmed,
        tally.canceled,
        tally.expired,
    )
}

pub(crate) fn result(
    entries: &Entries,
    outcomes: &BTreeMap<Outcome, usize>,
    stands: &[Stand],
    took: Duration,
    seed: u64,
) -> String {
    let mut text = format!(
        "\nThe sale took {:.0} s. Seed {seed}.\n\nOf {} shoppers\n",
        took.as_secs_f64(),
        entries.arrived
    );
    for (outcome, count) in outcomes {
        let _ = writeln!(text, "{count:>7} {}", outcome.words());
    }
    // After a slow answer, the journal's deadline is much later than the service's.
    let tally = entries.tally(match stands.iter().all(|stand| stand.held == 0) {
        true => entries.all_over(),
        false => Instant::now(),
    });
    let _ = writeln!(
        text,
        "\nreservations: {}; {} confirmed ({} of them late), {} canceled, {} expired, {} held",
        tally.reserved, tally.confirmed, tally.late, tally.canceled, tally.expired, tally.held
    );
    let refusals: Vec<String> = entries
        .refusals
        .iter()
        .map(|(code, count)| format!("{count} {code}"))
        .collect();
    let _ = writeln!(text, "refusals: {}", refusals.join(", "));
    let _ = writeln!(
        text,
        "waitlists: {} shoppers joined one, {} of them were offered units",
        entries.waited, entries.offered
    );
    let _ = writeln!(
        text,
        "repeats: {} requests without an answer, {} answers replayed for an Idempotency-Key",
        entries.lost, entries.replayed
    );
    let _ = writeln!(text, "{}\n", latency(&entries.reserve_times));
    let name_width = ITEMS.iter().map(|item| item.name.len()).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "product {:name_width$}{:>8}{:>8}{:>8}{:>8}",
        "", "total", "sold", "free", "held"
    );
    for stand in stands {
        let Stand { id, name, .. } = stand;
        let _ = writeln!(
            text,
            "{id:>7} {name:name_width$}{:>8}{:>8}{:>8}{:>8}",
            stand.total, stand.sold, stand.stock, stand.held
        );
    }
    text
}

fn latency(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort();
    // The shortest time that is not exceeded by this percentage of all times.
    let percentile = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100);
        let time = rank.checked_sub(1).and_then(|place| sorted.get(place));
        time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let (count, p50, p99) = (sorted.len(), percentile(50), percentile(99));
    format!("reserve: {count} answers, p50 {p50:.1} ms, p99 {p99:.1} ms, as the shoppers saw it")
}

/// The violations. If the demo was `stopped`, units may still be held.
pub(crate) fn wrong(
    entries: &Entries,
    stands: &[Stand],
    audit: &Value,
    stopped: bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for stand in stands {
        let name = format!("product {} ({})", stand.id, stand.name);
        let Sold { told, unanswered } = entries.sold(stand.id);
        if told > stand.total {
            wrong.push(format!(
                "{name} is oversold: the answers have {told} sold units, but only {} exist",
                stand.total
            ));
        }
        if !(told..=told + unanswered).contains(&stand.sold) {
            wrong.push(format!(
                "{name}: the API says that {} units are sold, but the shoppers' answers say {told}, \
                with {unanswered} more without an answer. (Or did another client sell or return some?)",
                stand.sold
            ));
        }
        if stand.held != 0 && !stopped {
            wrong.push(format!(
                "{name}: {} units are still held, although every hold is over. (Is an expirer running?)",
                stand.held
            ));
        }
    }
    for difference in differences(audit) {
        let product = difference["product_id"].as_i64();
        if stands.iter().any(|stand| Some(stand.id) == product) {
            wrong.push(format!("the audit is not clean: {difference}"));
        }
    }
    if entries.strange > 0 {
        wrong.push(format!(
            "{} unexpected answers, such as: {}",
            entries.strange,
            entries.strange_answers.join("; ")
        ));
    }
    wrong
}

/// The last lines.
pub(crate) fn verdict(wrong: &[String], audit: &Value) -> String {
    let others = differences(audit).len();
    match (wrong, others) {
        ([], 0) => "\nthe shoppers' answers and the API agree\naudit: clean\n".to_owned(),
        ([], others) => format!(
            "\nthe shoppers' answers and the API agree\n\
            audit: clean for these products; {others} differences in others, see GET /admin/audit\n"
        ),
        (wrong, _) => format!("\n{} errors:\n", wrong.len()),
    }
}

fn differences(audit: &Value) -> &[Value] {
    audit["differences"].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journal::{End, Hold};

    const PRODUCT: i64 = 7;

    /// Four units were sold, and perhaps two more.
    fn entries() -> Entries {
        let mut entries = Entries::default();
        for id in 1..=3 {
            let hold = Hold {
                id,
                product: PRODUCT,
                quantity: 2,
                deadline: Instant::now(),
                end: None,
            };
            entries.held(hold);
            entries.asks_to_sell(&hold);
            if id < 3 {
                entries.answered(&hold);
                entries.ended(&hold, End::Confirmed);
            }
        }
        entries
    }

    fn stand(total: i64, sold: i64, held: i64) -> Stand {
        Stand {
            id: PRODUCT,
            name: "Gift card".to_owned(),
            total,
            sold,
            stock: total - sold - held,
            held,
        }
    }

    fn of(stand: Stand) -> Vec<String> {
        wrong(&entries(), &[stand], &json!({"differences": []}), false)
    }

    #[track_caller]
    fn assert_only(wrong: &[String], words: &str) {
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains(words), "{wrong:?}");
    }

    #[test]
    fn what_was_answered_and_what_may_have_been_done_is_right() {
        for sold in 4..=6 {
            assert_eq!(of(stand(10, sold, 0)), Vec::<String>::new());
        }
    }

    #[test]
    fn more_or_fewer_sold_than_the_answers_say_is_wrong() {
        assert_only(&of(stand(10, 3, 0)), "3 units are sold");
        assert_only(&of(stand(10, 7, 0)), "7 units are sold");
    }

    #[test]
    fn more_answers_than_units_are_oversold() {
        assert_only(&of(stand(3, 4, 0)), "oversold");
    }

    #[test]
    fn nothing_is_held_at_the_end_unless_it_came_early() {
        assert_only(&of(stand(10, 4, 1)), "1 units are still held");
        let clean = json!({"differences": []});
        assert!(wrong(&entries(), &[stand(10, 4, 1)], &clean, true).is_empty());
    }

    #[test]
    fn the_audit_has_to_be_clean_for_these_products() {
        let audit = |product| json!({"differences": [{"product_id": product, "counter": "held"}]});
        let stands = [stand(10, 4, 0)];
        let ours = wrong(&entries(), &stands, &audit(PRODUCT), true);
        assert_only(&ours, "the audit is not clean");
        let others = wrong(&entries(), &stands, &audit(8), true);
        assert!(others.is_empty());
        assert!(verdict(&others, &audit(8)).contains("1 differences in others"));
    }

    #[test]
    fn an_answer_that_nobody_expects_is_wrong() {
        let mut entries = entries();
        entries.strange("500".to_owned());
        let clean = json!({"differences": []});
        assert_only(&wrong(&entries, &[stand(10, 4, 0)], &clean, false), "500");
    }
}
