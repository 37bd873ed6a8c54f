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

/// A filter can have too much to read. What is ACTIVE and what has ended are read lazily, in one order: each by an index.
const BEGIN: &str =
    "begin read only; set local statement_timeout = '2s'; set local enable_seqscan = off";

/// Up to so many holds are sorted by id. Where there are more, a walk by id through what is ACTIVE soon meets enough of
/// them.
const FEW: i64 = 2_000;

/// The stored ACTIVE holds on one side of their deadline, or on both. The deadline decides how a hold reads.
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
    // Each part in its own order: one list of all would have to be sorted whole.
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
    look(pool, BEGIN, query.build()).await
}

impl Filter {
    /// A user has few holds, and so has a reference: an index finds them, and they are sorted.
    fn is_narrow(&self) -> bool {
        self.user_id.is_some() || self.reference.is_some()
    }

    /// No index of what is ACTIVE has these in the order of their ids, and there may be many or few of them.
    fn needs_few(&self, side: Side) -> bool {
        !self.is_narrow() && (self.product_id.is_some() || !matches!(side, Side::Both))
    }
}

/// The holds of a product, or on one side of their deadline, up to one more than [`FEW`]. They are found by the index
/// of each product's deadlines: a walk by id would look for a handful of live holds among all that an expirer which
/// is away has not swept.
fn push_few(query: &mut QueryBuilder<Postgres>, filter: &Filter, side: Side) {
    let first = "select r.product_id from reservations_active r where r.quantity > 0";
    match filter.product_id {
        Some(product) => query
            .push("with recursive held (product_id) as (select ")
            .push_bind(product.get())
            .push("::bigint)"),
        // From product to product.
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

/// What is stored as ACTIVE.
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
        // The offset has them found first, and sorted then: not looked for in a walk by id.
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

/// What is stored as ended. The order names the index that the part is read from: for an equation the planner may
/// walk through all ids, because rows of this status, say, are many, and meet a million of another one first.
fn push_ended(query: &mut QueryBuilder<Postgres>, filter: &Filter, page: Page) {
    // The condition selects the indexes by user, status and product.
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

/// The range of a pair, in the order of the pair, which only the index of both has.
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

/// `selects` selects the index by user, where there is a user.
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
    /// Ids below this one come.
    fn after_id(self) -> i64 {
        self.after.map_or(i64::MAX, ReservationId::get)
    }

    /// How many rows each part has to give at the most.
    fn rows(self) -> i64 {
        self.limit.saturating_add(self.offset)
    }
}
