//! `GET /waitlist` and `GET /waitlist/{id}`

use axum::{
    extract::{FromRequestParts, State},
    http::{Uri, request::Parts},
};
use inventory::{
    ProductId, UserId, WaitlistEntryId,
    reservation::Refusal,
    sku::{self, Sku},
    waitlist::{self, Entry, EntryStatus, Filter, Order, Page},
};

use crate::{
    Problem,
    answer::Answer,
    bulkhead::Bulkhead,
    extract::{Id, query_pairs},
    keys::Client,
    openapi::{Describe, Operation, Schemas},
    paging::{self, Paged},
};

pub(crate) fn get_operation() -> Operation {
    Operation::new("getWaitlistEntry", "An entry of a waitlist")
        .explained("While the user waits, `position` is the place in the line.")
}

pub(crate) async fn get(
    _: Client,
    Id(id): Id<WaitlistEntryId>,
    State(bulkhead): State<&'static Bulkhead>,
) -> Result<Answer<Entry>, Problem> {
    let pool = bulkhead.pool();
    let found = bulkhead.execute("get_waitlist_entry", async move {
        waitlist::get(&pool, id).await
    });
    match found.await? {
        Some(entry) => Ok(Answer(entry)),
        None => Err(Refusal::WaitlistEntryNotFound.into()),
    }
}

pub(crate) fn list_operation() -> Operation {
    Operation::new("listWaitlist", "Entries of waitlists, oldest first").explained(
        "With `product_id` or `sku`, and `status=WAITING`: the line of a product, first in line first. With `order=newest`, the \
            last in line come first.",
    )
}

pub(crate) async fn list(
    _: Client,
    Listed {
        mut filter,
        sku,
        mut page,
    }: Listed,
    uri: Uri,
    State(bulkhead): State<&'static Bulkhead>,
) -> Result<Paged<Entry>, Problem> {
    let pool = bulkhead.pool();
    let limit = page.limit;
    let listed = bulkhead.execute("list_waitlist", async move {
        if let Some(sku) = sku {
            // Not from the memory of SKUs: an empty list cannot show that a remembered product has vanished.
            filter.product_id = sku::products(&pool, &[sku]).await?.pop().flatten();
            if filter.product_id.is_none() {
                return Ok(Vec::new());
            }
        }
        // One row more shows whether there is a next page.
        page.limit += 1;
        waitlist::list(&pool, &filter, page).await
    });
    Ok(Paged::new(&uri, listed.await?, limit, |last| last.id.get()))
}

/// The query of the list: filters and page.
pub(crate) struct Listed {
    filter: Filter,
    /// In place of the filter's product.
    sku: Option<Sku>,
    page: Page,
}

impl<S: Send + Sync> FromRequestParts<S> for Listed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut listed = Self {
            filter: Filter::default(),
            sku: None,
            page: Page {
                order: Order::default(),
                after: None,
                limit: paging::DEFAULT_LIMIT,
            },
        };
        for (name, value) in query_pairs(parts)? {
            let value = value.as_str();
            match name.as_str() {
                "user_id" => listed.filter.user_id = Some(paging::id(&name, value)?),
                "product_id" => listed.filter.product_id = Some(paging::id(&name, value)?),
                "sku" => listed.sku = Some(paging::parsed(&name, value)?),
                "status" => listed.filter.status = Some(paging::parsed(&name, value)?),
                "order" => listed.page.order = paging::parsed(&name, value)?,
                "limit" => listed.page.limit = paging::limit(&name, value)?,
                "after_id" => listed.page.after = Some(paging::id(&name, value)?),
                _ => return Err(paging::unknown(&name)),
            }
        }
        if listed.sku.is_some() && listed.filter.product_id.is_some() {
            return Err(Problem::InvalidQuery(
                "sku and product_id cannot be combined".to_owned(),
            ));
        }
        Ok(listed)
    }
}

impl Describe for Listed {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let (user, product) = (
            schemas.request_schema::<UserId>(),
            schemas.request_schema::<ProductId>(),
        );
        let (sku, status) = (
            schemas.request_schema::<Sku>(),
            schemas.response_schema::<EntryStatus>(),
        );
        let of_sku = "of the product with this SKU. Cannot be combined with `product_id`";
        let filters = [
            ("user_id", "of this user", user),
            ("product_id", "of this product", product),
            ("sku", of_sku, sku),
            ("status", "with this status", status),
        ];
        paging::filters(operation, "entries", filters);
        let order = schemas.response_schema::<Order>();
        let first = "Which entries come first. The default is `oldest`.";
        paging::parameter(operation, "order", first, order);
        paging::describe::<WaitlistEntryId>(operation, schemas);
    }
}
