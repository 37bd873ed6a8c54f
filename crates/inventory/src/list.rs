//! list: pages of reservations, newest first, that cost the same however many rows lie before and behind.

use sqlx::{PgPool, Postgres, QueryBuilder};

use crate::{
    Error, ProductId, ReservationId, UserId,
    database::look,
    reservation::{Reference, Reservation, Status, effective},
};

/// Which reservations to list; `None` means all.
#[derive(Clone, Default)]
pub struct Filter {
    pub user_id: Option<UserId>,
    pub product_id: Option<ProductId>,
    /// The effective status.
    pub status: Option<Status>,
    pub reference: Option<Reference>,
}

/// Which part of a list.
#[derive(Clone, Copy)]
pub struct Page {
    pub limit: i64,
    /// How many to leave out. They are read all the same.
    pub offset: i64,
    /// Leaves out this one and what comes before it, unread.
    pub after: Option<ReservationId>,
}

/// A filter can have too much to read.
const BEGIN: &str = "begin read only; set local statement_timeout = '2s'";

/// Up to so many holds on this side of their deadline are sorted by id. Where there are more, a walk by id through
/// what is ACTIVE soon meets enough of them.
const FEW: i64 = 2_000;

/// The walk by id: the condition is the name tag of the indexes for it.
const BY_ID: &str = "reservations r where r.created_at > '-infinity'";

/// The way through a source: the range of a pair, in the order of the pair, which only the index of both has. For an
/// equation the planner may walk through all ids, because rows of this status, say, are many, and meet a million of
/// another one first.
#[derive(Clone, Copy)]
enum Walk {
    Ids,
    Status(Status),
    Product(ProductId),
}

/// One page, newest first.
pub async fn list(pool: &PgPool, filter: &Filter, page: Page) -> Result<Vec<Reservation>, Error> {
    let mut query = QueryBuilder::<Postgres>::new("-- reservation: list\n");
    // The deadline decides about an ACTIVE row, and no index has deadlines in the order of ids. Left alone, a
    // walk by id would look for a handful of live holds among all that an expirer which is away has not swept.
    let side = match filter.status {
        Some(Status::Active) => Some("r.expires_at > now()"),
        Some(Status::Expired) => Some("r.expires_at <= now()"),
        _ => None,
    };
    let narrow = filter.user_id.is_some() || filter.reference.is_some();
    let by_product = filter.product_id.filter(|_| !narrow);
    let all = match by_product {
        Some(product) => Walk::Product(product),
        None => Walk::Ids,
    };
    let of_status = |status| match all {
        Walk::Ids if !narrow => Walk::Status(status),
        _ => all,
    };
    // Each is a source, the way through it, and the stored status if one is asked for.
    let mut branches = Vec::new();
    match (filter.status, side) {
        (None, _) => branches.push((BY_ID.to_owned(), all, None)),
        (Some(status), None) => {
            branches.push((BY_ID.to_owned(), of_status(status), Some(status)));
        }
        (Some(_), Some(side)) if narrow => {
            let source = format!("{BY_ID} and {side}");
            branches.push((source, all, Some(Status::Active)));
        }
        (Some(_), Some(side)) => {
            let due = match by_product {
                None => "r.created_at < 'infinity'".to_owned(),
                Some(product) => format!("r.product_id = {product} and r.quantity > 0"),
            };
            query.push(format!(
                "with few as materialized (select * from reservations r where r.status = 'ACTIVE' and {side} \
                and {due} order by r.expires_at limit {FEW} + 1) "
            ));
            let few = "(select count(*) from few)";
            branches.push((format!("few r where {few} <= {FEW}"), Walk::Ids, None));
            let many = format!("{BY_ID} and {side} and {few} > {FEW}");
            let active = Status::Active;
            branches.push((many, of_status(active), Some(active)));
        }
    }
    if filter.status == Some(Status::Expired) {
        let expired = Status::Expired;
        branches.push((BY_ID.to_owned(), of_status(expired), Some(expired)));
    }
    query.push("select * from (");
    for (position, (source, walk, status)) in branches.into_iter().enumerate() {
        // Each in its own order: one list of all would have to be sorted whole.
        query.push(if position > 0 { " union all (" } else { "(" });
        query.push(concat!(effective!(), " from ")).push(source);
        let after = page.after.map_or(i64::MAX, ReservationId::get);
        let order = match walk {
            Walk::Status(status) => {
                query.push(" and r.status >= ").push_bind(status);
                query.push(" and (r.status, r.id) < (").push_bind(status);
                query.push(", ").push_bind(after).push(")");
                "r.status desc, r.id desc"
            }
            Walk::Product(product) => {
                let product = product.get();
                query.push(" and r.product_id >= ").push_bind(product);
                query
                    .push(" and (r.product_id, r.id) < (")
                    .push_bind(product);
                query.push(", ").push_bind(after).push(")");
                "r.product_id desc, r.id desc"
            }
            Walk::Ids => {
                query.push(" and r.id < ").push_bind(after);
                "r.id desc"
            }
        };
        if let (Some(status), Walk::Ids | Walk::Product(_)) = (status, walk) {
            query.push(" and r.status = ").push_bind(status);
        }
        if let Some(user_id) = filter.user_id {
            query.push(" and r.user_id = ").push_bind(user_id.get());
        }
        if let (Some(product_id), Walk::Ids) = (filter.product_id, walk) {
            query
                .push(" and r.product_id = ")
                .push_bind(product_id.get());
        }
        if let Some(reference) = &filter.reference {
            query
                .push(" and r.reference = ")
                .push_bind(reference.as_str());
        }
        query
            .push(format!(" order by {order} limit "))
            .push_bind(page.limit.saturating_add(page.offset))
            .push(")");
    }
    query
        .push(") r order by id desc limit ")
        .push_bind(page.limit);
    query.push(" offset ").push_bind(page.offset);
    look(pool, BEGIN, query.build()).await
}
