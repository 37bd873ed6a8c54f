//! list: pages of reservations, newest first. The cost of a page does not depend on the number of rows before or
//! after it.

use sqlx::{PgPool, Postgres, QueryBuilder};

use crate::{
    Error, ProductId, ReservationId, UserId,
    database::read_only,
    reservation::{Reference, Reservation, Status, effective},
};

/// Which reservations to list. `None` matches all.
#[derive(Clone, Default)]
pub struct Filter {
    /// Only reservations of this user.
    pub user_id: Option<UserId>,
    /// Only reservations of this product.
    pub product_id: Option<ProductId>,
    /// Only reservations with this effective status: an ACTIVE hold past its deadline counts as EXPIRED.
    pub status: Option<Status>,
    /// Only reservations with this reference.
    pub reference: Option<Reference>,
}

/// Which part of the list to return.
#[derive(Clone, Copy)]
pub struct Page {
    /// Maximum number of reservations.
    pub limit: i64,
    /// Number of reservations to skip. They are read nevertheless.
    pub offset: i64,
    /// Starts after this reservation. Neither it nor newer ones are read.
    pub after: Option<ReservationId>,
}

/// The time limit is for filters that match too few of many rows. Without sequential scans, active and ended
/// reservations are both read lazily by an index, in the order of their ids.
const BEGIN: &str =
    "begin read only; set local statement_timeout = '2s'; set local enable_seqscan = off";

/// Up to this many holds are sorted by id. With more matching holds, a scan of the active holds by id soon finds
/// enough of them.
const FEW: i64 = 2_000;

/// Stored ACTIVE holds before their deadline, past it, or both. Past the deadline a hold reads as EXPIRED.
#[derive(Clone, Copy)]
enum Side {
    Live,
    Due,
    Both,
}

impl Side {
    fn condition(self) -> &'static str {
        match self {
            Self::Live => "r.expires_at > now()",
            Self::Due => "r.expires_at <= now()",
            Self::Both => "true",
        }
    }
}

/// One page, newest first.
pub async fn list(pool: &PgPool, filter: &Filter, page: Page) -> Result<Vec<Reservation>, Error> {
    let side = match filter.status {
        None => Some(Side::Both),
        Some(Status::Active) => Some(Side::Live),
        Some(Status::Expired) => Some(Side::Due),
        Some(_) => None,
    };
    let mut query = QueryBuilder::<Postgres>::new("-- reservation: list\n");
    if let Some(side) = side.filter(|side| filter.needs_few(*side)) {
        push_few(&mut query, filter, side);
    }
    // Each part is sorted by its own index. One combined list would have to be sorted as a whole.
    query.push("select * from (");
    if let Some(side) = side {
        push_active(&mut query, filter, page, side);
    }
    if filter.status != Some(Status::Active) {
        query.push(if side.is_some() { " union all (" } else { "(" });
        push_ended(&mut query, filter, page);
        query.push(")");
    }
    query
        .push(") r order by id desc limit ")
        .push_bind(page.limit);
    query.push(" offset ").push_bind(page.offset);
    read_only(pool, BEGIN, query.build()).await
}

impl Filter {
    /// A user or a reference has few holds: an index finds them, and they are sorted.
    fn is_narrow(&self) -> bool {
        self.user_id.is_some() || self.reference.is_some()
    }

    /// No index on active holds has these filters in id order, and they may match many or few holds.
    fn needs_few(&self, side: Side) -> bool {
        !self.is_narrow() && (self.product_id.is_some() || !matches!(side, Side::Both))
    }
}

/// Up to [`FEW`] + 1 holds of the product, or of the side of the deadline. They are found by the index on each
/// product's deadlines. A scan by id could read all unswept holds to find a few live ones while no expirer runs.
fn push_few(query: &mut QueryBuilder<Postgres>, filter: &Filter, side: Side) {
    let first = "select r.product_id from reservations_active r where r.quantity > 0";
    match filter.product_id {
        Some(product) => query
            .push("with recursive held (product_id) as (select ")
            .push_bind(product.get())
            .push("::bigint)"),
        // A recursive scan finds one product after another.
        None => query.push(format!(
            "with recursive held (product_id) as (
                ({first} order by r.product_id limit 1)
                union all
                select ({first} and r.product_id > h.product_id order by r.product_id limit 1)
                from held h where h.product_id is not null
            )"
        )),
    };
    query.push(format!(
        ", few as materialized (
            select r.* from held h
            cross join lateral (
                select r.* from reservations_active r
                where r.product_id = h.product_id and {} and r.quantity > 0
                order by r.expires_at limit {FEW} + 1
            ) r
            limit {FEW} + 1
        ) ",
        side.condition()
    ));
}

/// The part with rows stored as ACTIVE.
fn push_active(query: &mut QueryBuilder<Postgres>, filter: &Filter, page: Page, side: Side) {
    let columns = concat!("(", effective!(), " from ");
    let by_id = |query: &mut QueryBuilder<Postgres>| {
        query.push(" and r.id < ").push_bind(page.after_id());
        query.push(" order by r.id desc limit ");
        query.push_bind(page.rows()).push(")");
    };
    if filter.is_narrow() {
        query.push(columns);
        query.push("(select r.* from reservations_active r where ");
        query.push(side.condition());
        push_narrow(query, filter, " and r.user_id > 0");
        // OFFSET 0 makes the planner find the rows by index first and sort them afterwards, instead of scanning by
        // id.
        query.push(" offset 0) r where true");
        by_id(query);
    } else if filter.needs_few(side) {
        let few = "(select count(*) from few)";
        query.push(format!("{columns}few r where {few} <= {FEW}"));
        by_id(query);
        query.push(format!(
            " union all {columns}reservations_active r where {few} > {FEW} and {}",
            side.condition()
        ));
        push_product(query, filter);
        by_id(query);
    } else {
        query.push(columns).push("reservations_active r where true");
        by_id(query);
    }
}

/// The part with ended reservations. The ORDER BY selects the index. With a plain equality the planner may scan all
/// ids, because the status is frequent, and read a million rows of another status first.
fn push_ended(query: &mut QueryBuilder<Postgres>, filter: &Filter, page: Page) {
    // The condition selects the partial indexes by user, status and product.
    let from = " from reservations_ended r where r.created_at > '-infinity'";
    query.push(concat!(effective!())).push(from);
    let order = match (filter.product_id, filter.status) {
        (Some(product), _) if !filter.is_narrow() => {
            push_range(query, "product_id", product.get(), page);
            push_status(query, filter);
            "r.product_id desc, r.id desc"
        }
        (None, Some(status)) if !filter.is_narrow() => {
            push_range(query, "status", status, page);
            "r.status desc, r.id desc"
        }
        _ => {
            push_narrow(query, filter, "");
            push_status(query, filter);
            query.push(" and r.id < ").push_bind(page.after_id());
            "r.id desc"
        }
    };
    query.push(format!(" order by {order} limit "));
    query.push_bind(page.rows());
}

/// A range over a pair of columns. Only the index on both columns has this order.
fn push_range<'a, T>(query: &mut QueryBuilder<Postgres>, column: &str, value: T, page: Page)
where
    T: Copy + sqlx::Encode<'a, Postgres> + sqlx::Type<Postgres> + 'a,
{
    query.push(format!(" and r.{column} >= ")).push_bind(value);
    query
        .push(format!(" and (r.{column}, r.id) < ("))
        .push_bind(value);
    query.push(", ").push_bind(page.after_id()).push(")");
}

/// Filters by user, reference and product. `selects` is the condition that selects the index by user.
fn push_narrow(query: &mut QueryBuilder<Postgres>, filter: &Filter, selects: &str) {
    if let Some(user_id) = filter.user_id {
        query
            .push(selects)
            .push(" and r.user_id = ")
            .push_bind(user_id.get());
    }
    if let Some(reference) = &filter.reference {
        query
            .push(" and r.reference = ")
            .push_bind(reference.as_str().to_owned());
    }
    push_product(query, filter);
}

fn push_product(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(product_id) = filter.product_id {
        query
            .push(" and r.product_id = ")
            .push_bind(product_id.get());
    }
}

fn push_status(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(status) = filter.status {
        query.push(" and r.status = ").push_bind(status);
    }
}

impl Page {
    /// The page contains ids below this one.
    fn after_id(self) -> i64 {
        self.after.map_or(i64::MAX, ReservationId::get)
    }

    /// Maximum number of rows that each part must return.
    fn rows(self) -> i64 {
        self.limit.saturating_add(self.offset)
    }
}
