//! list: pages of reservations, newest first, that cost the same however many rows lie before and behind.

use sqlx::{PgPool, Postgres, QueryBuilder};

use crate::{
    Error, ProductId, ReservationId, UserId,
    database::read,
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

/// Up to so many holds on this side of their deadline are sorted by id. Where there are more, a walk by id through
/// what is ACTIVE soon meets enough of them.
const FEW: i64 = 2_000;

/// The walk by id: the condition is the name tag of the indexes for it.
const BY_ID: &str = "reservations r where r.created_at > '-infinity'";

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
    // Each is a source, and the stored status if one is asked for.
    let mut branches = Vec::new();
    match (filter.status, side) {
        (status, None) => branches.push((BY_ID.to_owned(), status)),
        (_, Some(side)) if narrow => {
            branches.push((format!("{BY_ID} and {side}"), Some(Status::Active)));
        }
        (_, Some(side)) => {
            query.push(format!(
                "with few as materialized (select * from reservations r where r.status = 'ACTIVE' and {side} \
                and r.created_at < 'infinity' order by r.expires_at limit {FEW} + 1) "
            ));
            let few = "(select count(*) from few)";
            branches.push((format!("few r where {few} <= {FEW}"), None));
            let many = format!("{BY_ID} and {side} and {few} > {FEW}");
            branches.push((many, Some(Status::Active)));
        }
    }
    if filter.status == Some(Status::Expired) {
        branches.push((BY_ID.to_owned(), Some(Status::Expired)));
    }
    query.push("select * from (");
    for (position, (source, status)) in branches.into_iter().enumerate() {
        // Each in its own order: one list of all would have to be sorted whole.
        query.push(if position > 0 { " union all (" } else { "(" });
        query.push(concat!(effective!(), " from ")).push(source);
        let after = page.after.map_or(i64::MAX, ReservationId::get);
        let mut order = "r.id desc";
        match status {
            // A range of the pair, in the order of the pair: only the index of both has that. For an equation the
            // planner may walk through all ids, because rows of this status are many, and meet a million of another
            // one first.
            Some(status) if !narrow => {
                query.push(" and r.status >= ").push_bind(status);
                query.push(" and (r.status, r.id) < (").push_bind(status);
                query.push(", ").push_bind(after).push(")");
                order = "r.status desc, r.id desc";
            }
            Some(status) => {
                query.push(" and r.status = ").push_bind(status);
                query.push(" and r.id < ").push_bind(after);
            }
            None => {
                query.push(" and r.id < ").push_bind(after);
            }
        }
        if let Some(user_id) = filter.user_id {
            query.push(" and r.user_id = ").push_bind(user_id.get());
        }
        if let Some(product_id) = filter.product_id {
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
    read(pool, query.build()).await
}
