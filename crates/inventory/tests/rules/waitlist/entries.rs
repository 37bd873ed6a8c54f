//! Joining and leaving a line, and reading it.

use inventory::{
    product::Policy,
    reservation::Refusal,
    waitlist::{self, EntryStatus, Filter, Order, Page},
};
use sqlx::PgPool;

use super::stage::{self, Line, entry_id, wish};
use crate::support::{Shop, user};

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_join_is_refused_as_a_reserve_is_and_a_retry_finds_its_entry(pool: PgPool) {
    let shop = Shop::new(pool);
    let limited = Policy {
        max_per_user: Some(Some(2.try_into().unwrap())),
        ..Policy::default()
    };
    let product = shop.product_with(2, limited).await;
    let sold = shop.hold(product, 1).await.id;
    let held = shop.hold(product, 2).await.id;
    shop.confirm(&[sold]).await;
    let refused = async |user_id: i64, quantity: i64| {
        let joined = shop.join(&wish(product, user_id, quantity)).await;
        joined.answer.map(|entry| entry.position).unwrap_err()
    };

    assert_eq!(
        refused(1, 2).await,
        Refusal::MaxPerUserReached { remaining: 1 }
    );
    assert_eq!(
        refused(2, 1).await,
        Refusal::AlreadyReserved {
            reservation_id: held
        }
    );
    let entry = shop.join(&wish(product, 1, 1)).await.answer.unwrap();
    assert_eq!(
        refused(1, 9).await,
        Refusal::AlreadyWaiting { entry_id: entry.id }
    );
    let unknown = wish(i64::MAX.try_into().unwrap(), 1, 1);
    assert_eq!(
        shop.join(&unknown).await.answer.unwrap_err(),
        Refusal::ProductNotFound
    );
    for (policy, refusal) in [
        (stage::window(1, 2), Refusal::SaleNotOpen),
        (stage::window(-2, -1), Refusal::SaleClosed),
    ] {
        let product = shop.product_with(0, policy).await;
        let joined = shop.join(&wish(product, 1, 1)).await;
        assert_eq!(joined.answer.unwrap_err(), refusal);
    }
    // A user in the line of one product may join another's.
    let other = shop.product(0).await;
    assert_eq!(shop.waits(other, 1).await.position, Some(1));
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_join_gets_what_is_free_at_once(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(3).await;
    shop.stale_hold(product, 1, 60).await;
    let own = shop.stale_hold(product, 2, 30).await;
    let mut free = wish(product, 3, 1);
    free.reference = Some("A-7".parse().unwrap());
    for (request, expired) in [(free, 0), (wish(product, 2, 2), 2)] {
        let joined = shop.join(&request).await;
        assert_eq!((joined.expired, joined.offered), (expired, 1));
        let entry = joined.answer.unwrap();
        assert_eq!((entry.status, entry.position), (EntryStatus::Offered, None));
        let hold = shop.get(entry.reservation_id.unwrap()).await;
        assert_eq!(hold.reference, request.reference);
        assert_eq!(hold.quantity, request.quantity);
        assert_eq!(shop.entry(entry.id).await, entry);
    }
    assert_eq!(shop.stored(own).await.status, "EXPIRED");
    // A user's own due hold ends first, whichever is the longest due: nobody may have two.
    let product = shop.product(2).await;
    shop.stale_hold(product, 1, 60).await;
    let own = shop.stale_hold(product, 2, 30).await;
    let joined = shop.join(&wish(product, 2, 1)).await;
    assert_eq!((joined.expired, joined.offered), (1, 1));
    assert_eq!(joined.answer.unwrap().status, EntryStatus::Offered);
    assert_eq!(shop.stored(own).await.status, "EXPIRED");
    // A user's own due hold ends also if the units are not enough.
    let stale = shop.product(1).await;
    let own = shop.stale_hold(stale, 2, 30).await;
    let waiting = shop.join(&wish(stale, 2, 2)).await;
    assert_eq!((waiting.expired, waiting.offered), (1, 0));
    assert_eq!(shop.stored(own).await.status, "EXPIRED");
    shop.assert_sound().await;
    shop.assert_lines().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn a_leave_can_be_repeated_and_comes_too_late_after_an_offer(pool: PgPool) {
    let shop = Shop::new(pool);
    let product = shop.product(1).await;
    let hold = shop.hold(product, 1).await.id;
    let [first, second] = [shop.waits(product, 2).await, shop.waits(product, 3).await];
    let left = shop.leave(first.id).await;
    let again = shop.leave(first.id).await;
    assert!(left.changed && !again.changed);
    assert_eq!(left.answer.unwrap(), again.answer.unwrap());
    assert_eq!(shop.entry(second.id).await.position, Some(1));

    shop.cancel(&[hold]).await;
    let offered = shop.entry(second.id).await;
    assert_eq!(
        shop.leave(second.id).await.answer.unwrap_err(),
        Refusal::WaitlistEntryOffered {
            reservation_id: offered.reservation_id.unwrap()
        }
    );
    let unknown = shop.leave(entry_id(i64::MAX)).await;
    assert_eq!(unknown.answer.unwrap_err(), Refusal::WaitlistEntryNotFound);
    // Who has left may join again, at the end.
    let again = shop.waits(product, 2).await;
    assert!(again.id > second.id);
    shop.assert_sound().await;
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn lists_are_filtered_and_in_the_order_of_the_line(pool: PgPool) {
    let shop = Shop::new(pool);
    let [product, other] = [shop.product(0).await, shop.product(0).await];
    let mut entries = Vec::new();
    for user_id in 1..6 {
        entries.push(shop.waits(product, user_id).await);
        entries.push(shop.waits(other, user_id).await);
    }
    shop.leave(entries[2].id).await;
    let listed_in = async |order, filter: Filter, after: Option<usize>, limit: i64| {
        let page = Page {
            order,
            after: after.map(|position| entries[position].id),
            limit,
        };
        let listed = waitlist::list(&shop.pool, &filter, page).await;
        let listed = listed.unwrap();
        let place = |id| entries.iter().position(|entry| entry.id == id).unwrap();
        let listed: Vec<_> = listed
            .iter()
            .map(|entry| (place(entry.id), entry.position))
            .collect();
        listed
    };
    let listed = async |filter, after, limit| listed_in(Order::Oldest, filter, after, limit).await;
    let of_product = Filter {
        product_id: Some(product),
        ..Filter::default()
    };
    let line = Filter {
        status: Some(EntryStatus::Waiting),
        ..of_product
    };
    assert_eq!(
        listed(line, None, 100).await,
        [(0, Some(1)), (4, Some(2)), (6, Some(3)), (8, Some(4))]
    );
    assert_eq!(listed(line, Some(4), 1).await, [(6, Some(3))]);
    assert_eq!(listed(of_product, None, 2).await, [(0, Some(1)), (2, None)]);
    let left = Filter {
        status: Some(EntryStatus::Left),
        ..Filter::default()
    };
    assert_eq!(listed(left, None, 100).await, [(2, None)]);
    let of_user = Filter {
        user_id: Some(user(2)),
        ..Filter::default()
    };
    assert_eq!(listed(of_user, None, 100).await, [(2, None), (3, Some(2))]);
    let of_both = Filter {
        product_id: Some(other),
        ..of_user
    };
    assert_eq!(listed(of_both, None, 100).await, [(3, Some(2))]);
    assert_eq!(
        listed(Filter::default(), Some(8), 100).await,
        [(9, Some(5))]
    );
    // Newest first, the same entries come in the reverse order, page by page.
    for filter in [of_product, line, left, of_user, of_both, Filter::default()] {
        let mut expected = listed(filter, None, 100).await;
        expected.reverse();
        let mut read = Vec::new();
        loop {
            let after = read.last().map(|(place, _)| *place);
            let page = listed_in(Order::Newest, filter, after, 2).await;
            if page.is_empty() {
                break;
            }
            read.extend(page);
        }
        assert_eq!(read, expected);
    }
}

#[sqlx::test(migrator = "inventory::migrate::MIGRATOR")]
async fn offers_are_counted_by_product(pool: PgPool) {
    let shop = Shop::new(pool);
    let [quiet, first, second] = [
        shop.product(1).await,
        shop.product(1).await,
        shop.product(1).await,
    ];
    for product in [first, second] {
        let hold = shop.hold(product, 1).await.id;
        shop.waits(product, 2).await;
        shop.cancel(&[hold]).await;
    }
    shop.hold(quiet, 1).await;
    shop.waits(quiet, 2).await;
    let offers = async |limit| {
        let offers = waitlist::offers(&shop.pool, limit).await.unwrap();
        let offers = offers
            .iter()
            .map(|offers| (offers.product_id, offers.holds));
        offers.collect::<Vec<_>>()
    };
    assert_eq!(offers(10).await, [(second, 1), (first, 1)]);
    assert_eq!(offers(1).await, [(second, 1)]);
}
