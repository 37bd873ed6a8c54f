//! The products and the shoppers of a demo, drawn from the seed in advance.

use std::time::Duration;

use fastrand::Rng;

/// Maximum duration of a hold: short, so that some holds expire during the demo.
const HOLD_MAX: Duration = Duration::from_secs(15);

/// A product of the demo.
pub(crate) struct Item {
    pub(crate) name: &'static str,
    /// Weight among the shoppers while all products are open.
    popularity: u32,
    /// Units per 1,000 shoppers.
    stock_per_mille: u32,
    pub(crate) max_per_user: Option<i64>,
    pub(crate) opens_late: bool,
}

const fn item(name: &'static str, popularity: u32, stock_per_mille: u32) -> Item {
    Item {
        name,
        popularity,
        stock_per_mille,
        max_per_user: None,
        opens_late: false,
    }
}

/// The first product sells out within seconds, later ones take longer, and the last ones never do.
pub(crate) const ITEMS: [Item; 12] = [
    item("Game console, launch edition", 28, 15),
    item("Wireless earbuds", 12, 45),
    item("Television, 55 inch", 9, 40),
    Item {
        max_per_user: Some(2),
        ..item("Concert ticket, standing", 8, 75)
    },
    item("Espresso machine", 8, 40),
    Item {
        opens_late: true,
        ..item("Sneakers, numbered edition", 6, 60)
    },
    item("E-bike", 7, 40),
    item("Robot vacuum cleaner", 7, 70),
    item("Smart watch", 6, 90),
    item("Tablet, 11 inch", 4, 80),
    item("Gift card", 3, 200),
    item("Board game", 2, 50),
];

impl Item {
    /// Initial units.
    pub(crate) fn stock(&self, shoppers: u32) -> u32 {
        (shoppers * self.stock_per_mille / 1000).max(1)
    }
}

/// The schedule, relative to the opening.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) hold: Duration,
    /// When the late product opens.
    pub(crate) second_opening: Duration,
    /// The last shopper arrives before this time.
    pub(crate) last_arrival: Duration,
    /// No reserves after this time, so that all holds are over at the end.
    pub(crate) last_reserve: Duration,
    pub(crate) end: Duration,
}

impl Times {
    pub(crate) fn of(length: Duration) -> Self {
        let hold = Duration::from_secs((length / 6).as_secs().max(1)).min(HOLD_MAX);
        Self {
            hold,
            second_opening: length / 3,
            last_arrival: length * 2 / 3,
            last_reserve: length - hold,
            end: length,
        }
    }
}

/// A shopper who comes to buy.
pub(crate) struct Shopper {
    pub(crate) user: i64,
    pub(crate) arrives: Duration,
    /// Index in [`ITEMS`].
    pub(crate) item: usize,
    pub(crate) quantity: i64,
    pub(crate) intention: Intention,
    /// Sends the first reserve twice at the same time.
    pub(crate) clicks_twice: bool,
    /// Disconnects during the first reserve, and repeats it with its Idempotency-Key.
    pub(crate) hangs_up: bool,
    /// How often the shopper returns when everything is sold out.
    pub(crate) comes_back: u32,
    /// Joins the waitlist when everything is sold out.
    pub(crate) waits: bool,
    pub(crate) rng: Rng,
}

/// The shopper's plan for a hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Intention {
    Pay,
    PayLate,
    Cancel,
    WalkAway,
}

/// The shoppers in order of arrival.
pub(crate) fn shoppers(seed: u64, count: u32, times: Times) -> Vec<Shopper> {
    let mut rng = Rng::with_seed(seed);
    let mut shoppers: Vec<Shopper> = (1..=i64::from(count))
        .map(|user| shopper(user, times, rng.fork()))
        .collect();
    shoppers.sort_by_key(|shopper| shopper.arrives);
    shoppers
}

fn shopper(user: i64, times: Times, mut rng: Rng) -> Shopper {
    let (wave, arrives) = arrival(times, &mut rng);
    let for_the_late_one = wave == Wave::Second && rng.u8(..10) < 6;
    let item = if for_the_late_one {
        ITEMS.iter().position(|item| item.opens_late).unwrap_or(0)
    } else {
        by_popularity(&mut rng)
    };
    Shopper {
        user,
        arrives,
        item,
        quantity: quantity(ITEMS[item].max_per_user, &mut rng),
        intention: match rng.u8(..100) {
            0..70 => Intention::Pay,
            70..75 => Intention::PayLate,
            75..84 => Intention::Cancel,
            _ => Intention::WalkAway,
        },
        clicks_twice: rng.u8(..100) < 3,
        hangs_up: rng.u8(..100) < 3,
        comes_back: if rng.u8(..10) < 4 { 2 } else { 0 },
        waits: rng.u8(..100) < 15,
        rng,
    }
}

#[derive(PartialEq)]
enum Wave {
    Opening,
    Between,
    Second,
}

/// A rush at each opening that fades, and some arrivals at any time.
fn arrival(times: Times, rng: &mut Rng) -> (Wave, Duration) {
    let dying_down = |rng: &mut Rng, mean: Duration| mean.mul_f64(-(1.0 - rng.f64()).ln());
    let (wave, arrives) = match rng.u8(..20) {
        0..10 => (Wave::Opening, dying_down(rng, times.end / 15)),
        10..15 => (Wave::Between, times.last_arrival.mul_f64(rng.f64())),
        _ => {
            let after = dying_down(rng, times.end / 22);
            (Wave::Second, times.second_opening + after)
        }
    };
    (wave, arrives.min(times.last_arrival))
}

fn by_popularity(rng: &mut Rng) -> usize {
    let all: u32 = ITEMS.iter().map(|item| item.popularity).sum();
    let mut left = rng.u32(..all);
    let chosen = ITEMS.iter().position(|item| {
        let found = left < item.popularity;
        left = left.saturating_sub(item.popularity);
        found
    });
    chosen.unwrap_or(0)
}

/// With a limit, most shoppers take the maximum, and some request more.
fn quantity(max_per_user: Option<i64>, rng: &mut Rng) -> i64 {
    match (max_per_user, rng.u8(..10)) {
        (Some(max), 0..6) => max,
        (Some(max), 6) => max + 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_who_comes_when_for_what() {
        let times = Times::of(Duration::from_secs(90));
        let all = |seed| -> Vec<_> {
            let shoppers = shoppers(seed, 500, times);
            let seen = |one: &Shopper| (one.user, one.arrives, one.item, one.intention);
            shoppers.iter().map(seen).collect()
        };
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
        let last = all(7).last().map(|one| one.1);
        assert!(last <= Some(times.last_arrival));
    }

    #[test]
    fn what_is_held_last_is_over_at_the_end() {
        for seconds in [5, 6, 90, 600] {
            let times = Times::of(Duration::from_secs(seconds));
            assert!(times.hold >= Duration::from_secs(1));
            assert!(times.last_arrival <= times.last_reserve, "{seconds}");
            assert!(times.last_reserve + times.hold <= times.end, "{seconds}");
        }
    }
}
