//! `/products`

use axum::{
    extract::{FromRequestParts, State},
    http::{StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use inventory::{
    ProductId,
    adjust_stock::{self, Adjustment},
    product::{self, InvalidProduct, NewProduct, Policy, hold_seconds, sale_time},
    reservation::Refusal,
};
use serde::{Deserialize, Deserializer};
use serde_json::Number;

use crate::{
    AppState, Problem,
    answer::Answer,
    extract::{Admin, Id, Json, query_pairs},
    idempotency::Keyed,
    keys::Client,
    paging,
};

/// A product as it is to be. A number or a time that is out of range makes an invalid product, not an invalid
/// request. The inner option is `null`, the outer one "not given".
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedProduct {
    #[serde(default, deserialize_with = "given")]
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    stock: Option<Number>,
    #[serde(default, deserialize_with = "given")]
    hold_seconds: Option<Option<Number>>,
    #[serde(default, deserialize_with = "given")]
    max_hold_seconds: Option<Option<Number>>,
    #[serde(default, deserialize_with = "given")]
    max_per_user: Option<Option<Number>>,
    #[serde(default, deserialize_with = "given")]
    sale_starts_at: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    sale_ends_at: Option<Option<String>>,
}

fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl WantedProduct {
    fn policy(&self) -> Result<Policy, InvalidProduct> {
        let seconds = |field, wanted: &Option<Option<Number>>| {
            checked(wanted, |number: &Number| {
                // What is no i64 is out of range.
                hold_seconds(field, number.as_i64().unwrap_or(i64::MAX))
            })
        };
        let time = |field, wanted: &Option<Option<String>>| {
            checked(wanted, |text: &String| sale_time(field, text))
        };
        Ok(Policy {
            hold_seconds: seconds("hold_seconds", &self.hold_seconds)?,
            max_hold_seconds: seconds("max_hold_seconds", &self.max_hold_seconds)?,
            max_per_user: checked(&self.max_per_user, |number| {
                let units = number.as_i64().and_then(|units| units.try_into().ok());
                units.ok_or(InvalidProduct::MaxPerUser)
            })?,
            sale_starts_at: time("sale_starts_at", &self.sale_starts_at)?,
            sale_ends_at: time("sale_ends_at", &self.sale_ends_at)?,
        })
    }
}

fn checked<T, U>(
    wanted: &Option<Option<T>>,
    check: impl Fn(&T) -> Result<U, InvalidProduct>,
) -> Result<Option<Option<U>>, InvalidProduct> {
    match wanted {
        None => Ok(None),
        Some(None) => Ok(Some(None)),
        Some(Some(value)) => Ok(Some(Some(check(value)?))),
    }
}

pub(crate) async fn create(
    _: Admin,
    State(state): State<AppState>,
    Keyed(key, Json(body)): Keyed<Json<WantedProduct>>,
) -> Result<Response, Problem> {
    let policy = body.policy();
    let missing = |field| Problem::InvalidRequest(format!("missing field `{field}`"));
    let name = body.name.ok_or_else(|| missing("name"))?;
    let stock = body.stock.ok_or_else(|| missing("stock"))?;
    let stock = stock.as_i64().ok_or(InvalidProduct::Stock)?;
    let new = NewProduct::new(name, stock, policy?)?;
    let once = state.once(
        "create_product",
        key,
        move |via| async move { product::create(via, &new).await }.boxed(),
        |_, _| (),
        |created| {
            let created = created.as_ref().map_err(InvalidProduct::clone)?;
            let location = [(header::LOCATION, format!("/products/{}", created.id))];
            Ok((StatusCode::CREATED, location, Answer(created)).into_response())
        },
    );
    once.await
}

pub(crate) async fn change(
    _: Admin,
    Id(id): Id<ProductId>,
    State(state): State<AppState>,
    Json(body): Json<WantedProduct>,
) -> Result<Response, Problem> {
    if body.stock.is_some() {
        let detail = "stock is changed by POST /products/{id}/stock".to_owned();
        return Err(Problem::InvalidRequest(detail));
    }
    let policy = body.policy()?;
    let name = body.name.map(TryInto::try_into).transpose()?;
    let pool = state.pool.clone();
    let changed = state.call("change_product", async move {
        product::change(&pool, id, name.as_ref(), &policy).await
    });
    match changed.await?? {
        Some(product) => Ok(Answer(product).into_response()),
        None => Err(Refusal::ProductNotFound.into()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdjustStock {
    delta: i32,
    reason: String,
}

pub(crate) async fn adjust_stock(
    _: Admin,
    Id(id): Id<ProductId>,
    State(state): State<AppState>,
    Keyed(key, Json(body)): Keyed<Json<AdjustStock>>,
) -> Result<Response, Problem> {
    let adjustment = Adjustment::new(body.delta, body.reason)?;
    let events = state.events.clone();
    let once = state.once(
        "adjust_stock",
        key,
        move |via| {
            async move { adjust_stock::adjust_stock(via, id, &adjustment, &events).await }.boxed()
        },
        |books, adjusted| books.expired(adjusted.expired),
        |adjusted| {
            let product = adjusted.answer.as_ref().map_err(Refusal::clone)?;
            Ok(Answer(product).into_response())
        },
    );
    once.await
}

pub(crate) async fn list(
    _: Client,
    page: Page,
    uri: Uri,
    State(state): State<AppState>,
) -> Result<Response, Problem> {
    let Page(Some((limit, after))) = page else {
        return Ok(Answer(&*state.products.ask(0, ()).await?).into_response());
    };
    let pool = state.pool.clone();
    let listed = state.call("list_products", async move {
        // One more tells whether there is a next page.
        product::page(&pool, after, limit + 1).await
    });
    let mut products = listed.await?;
    let more = paging::cut(&mut products, limit);
    let next = more.then(|| paging::next(&uri, products.last().map(|last| last.id.get())));
    Ok((next, Answer(products)).into_response())
}

/// How many products, after which. Without either: all of them.
pub(crate) struct Page(Option<(i64, Option<ProductId>)>);

impl FromRequestParts<AppState> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let (mut limit, mut after) = (None, None);
        for (name, value) in query_pairs(parts)? {
            match name.as_str() {
                "limit" => limit = Some(paging::limit(&name, &value)?),
                "after_id" => after = Some(paging::id(&name, &value)?),
                _ => return Err(paging::unknown(&name)),
            }
        }
        let asked = limit.is_some() || after.is_some();
        Ok(Self(
            asked.then(|| (limit.unwrap_or(paging::DEFAULT_LIMIT), after)),
        ))
    }
}

pub(crate) async fn get(
    _: Client,
    Id(id): Id<ProductId>,
    State(state): State<AppState>,
) -> Result<Response, Problem> {
    match state.product.ask(id.get(), id).await? {
        Some(product) => Ok(Answer(product).into_response()),
        None => Err(Refusal::ProductNotFound.into()),
    }
}
