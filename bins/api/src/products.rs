//! `/products`

use axum::{
    extract::{FromRequestParts, State},
    http::{Uri, request::Parts},
};
use futures_util::FutureExt as _;
use inventory::{
    ProductId, Quantity, Timestamp,
    product::{
        self, HOLD_MAX_SECONDS, InvalidProduct, NAME_MAX_CHARACTERS, Name, NewProduct, Policy,
        Product, hold_seconds, sale_time,
    },
    reservation::Refusal,
    schema::WITHOUT_NUL,
    sku::Sku,
    whole_number,
};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer};
use serde_json::Number;

use crate::{
    Problem,
    answer::{Answer, Created},
    auth::Admin,
    bulkhead::{About, Bulkhead},
    code::ProblemCode,
    etag::{IfNoneMatch, Tagged},
    extract::{Id, Json, given, query_pairs},
    faults::Fault,
    idempotency::{Keyed, Rendered},
    keys::Client,
    lane_builder::{LaneBuilder, VerbLanes},
    list_memory::{ListMemory, RenderedList},
    openapi::{Describe, Operation, Schemas},
    paging::{self, Paged},
    sale::Sale,
    skus::Skus,
};

/// Reads of several products.
pub(crate) struct Lists {
    whole: VerbLanes<(), RenderedList>,
    one: &'static Lanes,
    skus: &'static Skus,
}

/// Reads of products by id.
pub(crate) type Lanes = lanes::Lanes<ProductId, Option<Product>>;

impl Lists {
    pub(crate) fn start(builder: &LaneBuilder, one: &'static Lanes, skus: &'static Skus) -> Self {
        let memory = ListMemory::default();
        let list = move |pool, requests: Vec<()>| {
            let memory = memory.clone();
            async move {
                let products = product::list(&pool).await?;
                let list = memory.rendered(&products);
                Ok(vec![list; requests.len()])
            }
        };
        Self {
            whole: builder.lanes("list_products", 1, list),
            one,
            skus,
        }
    }

    /// The product with this SKU, if there is one.
    async fn with_sku(&self, sku: &Sku) -> Result<Vec<Product>, Problem> {
        let Some(id) = self.skus.find(sku).await? else {
            return Ok(Vec::new());
        };
        let product = self.one.ask(id.get(), id).await?;
        if product.is_none() {
            self.skus.forget(sku);
        }
        Ok(product.into_iter().collect())
    }
}

pub(crate) fn start(builder: &LaneBuilder) -> Lanes {
    let get = async |pool, ids: Vec<ProductId>| product::get(&pool, &ids).await;
    builder.lanes("get_product", 1, get)
}

/// The wanted fields of a product. A number or a time that is out of range is answered `invalid_product`, not
/// `invalid_request`. The inner option is `None` for `null`. The outer option is `None` if the field is absent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct WantedProduct {
    #[serde(default, deserialize_with = "given")]
    #[schemars(
        with = "String",
        length(min = 1, max = NAME_MAX_CHARACTERS),
        regex(pattern = WITHOUT_NUL),
        example = &"iPhone 15"
    )]
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    /// Your own key of the product. No other product may have it. Once the product has it, it never changes.
    #[schemars(with = "Sku", example = &"IPH-15")]
    sku: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "i32", range(min = 0, max = i32::MAX), example = 10)]
    stock: Option<WantedNumber>,
    #[serde(default, deserialize_with = "given")]
    /// Duration of a hold, in seconds. The default is the API's setting `HOLD_SECONDS`.
    #[schemars(with = "Option<i32>", range(min = 1, max = HOLD_MAX_SECONDS))]
    hold_seconds: Option<Option<WantedNumber>>,
    #[serde(default, deserialize_with = "given")]
    /// Longest duration of an extended hold, in seconds from its creation. The default is the API's setting
    /// `MAX_HOLD_SECONDS`.
    #[schemars(with = "Option<i32>", range(min = 1, max = HOLD_MAX_SECONDS))]
    max_hold_seconds: Option<Option<WantedNumber>>,
    #[serde(default, deserialize_with = "given")]
    /// Most units that one user may hold and have bought, together. The default is no limit.
    #[schemars(with = "Option<Quantity>")]
    max_per_user: Option<Option<WantedNumber>>,
    #[serde(default, deserialize_with = "given")]
    /// Start of the sale, by the database's clock. Reserves before it are refused. The default is no start.
    #[schemars(with = "Option<Timestamp>")]
    sale_starts_at: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    /// End of the sale, by the database's clock. Reserves from this time on are refused. It must be later than
    /// `sale_starts_at`. The default is no end.
    #[schemars(with = "Option<Timestamp>")]
    sale_ends_at: Option<Option<String>>,
}

/// A number of a [`WantedProduct`]. `None`: it is not a whole number, or far too large.
struct WantedNumber(Option<i64>);

impl<'de> Deserialize<'de> for WantedNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        Ok(Self(whole_number(&number, i64::MIN, i64::MAX).ok()))
    }
}

/// A product to create.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transform = with_name_and_stock)]
pub(crate) struct CreateProduct(WantedProduct);

fn with_name_and_stock(schema: &mut Schema) {
    schema.insert("required".into(), ["name", "stock"].into());
}

/// The fields of a product to change.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transform = without_stock)]
pub(crate) struct ChangeProduct(WantedProduct);

fn without_stock(schema: &mut Schema) {
    if let Some(properties) = schema
        .get_mut("properties")
        .and_then(|of| of.as_object_mut())
    {
        properties.shift_remove("stock");
    }
}

/// The fields of a [`WantedProduct`], of which each is valid.
pub(crate) struct ValidProduct {
    pub(crate) name: Option<Name>,
    pub(crate) sku: Option<Sku>,
    pub(crate) stock: Option<i32>,
    pub(crate) policy: Policy,
}

impl WantedProduct {
    /// Checks all fields. The error has one fault for each field that is wrong.
    pub(crate) fn validated(&self) -> Result<ValidProduct, Vec<InvalidProduct>> {
        let mut faults = Vec::new();
        let policy = self.policy(&mut faults);
        let name = self.name.clone().map(Name::try_from).transpose();
        let sku = self.sku.clone().map(Sku::try_from).transpose();
        let valid = ValidProduct {
            name: valid(name, &mut faults),
            sku: valid(sku.map_err(InvalidProduct::from), &mut faults),
            stock: valid(self.stock(), &mut faults),
            policy,
        };
        match faults.is_empty() {
            true => Ok(valid),
            false => Err(faults),
        }
    }

    fn stock(&self) -> Result<Option<i32>, InvalidProduct> {
        let units = |wanted: &WantedNumber| {
            let units = wanted.0.and_then(|units| i32::try_from(units).ok());
            units
                .filter(|units| *units >= 0)
                .ok_or(InvalidProduct::Stock)
        };
        self.stock.as_ref().map(units).transpose()
    }

    fn policy(&self, faults: &mut Vec<InvalidProduct>) -> Policy {
        let seconds = |field, wanted: &Option<Option<WantedNumber>>| {
            checked(wanted, |number: &WantedNumber| {
                let seconds = number.0.ok_or(InvalidProduct::Seconds(field))?;
                hold_seconds(field, seconds)
            })
        };
        let time = |field, wanted: &Option<Option<String>>| {
            checked(wanted, |text: &String| sale_time(field, text))
        };
        let max_per_user = checked(&self.max_per_user, |number| {
            let units = number.0.and_then(|units| units.try_into().ok());
            units.ok_or(InvalidProduct::MaxPerUser)
        });
        let policy = Policy {
            hold_seconds: valid(seconds("hold_seconds", &self.hold_seconds), faults),
            max_hold_seconds: valid(seconds("max_hold_seconds", &self.max_hold_seconds), faults),
            max_per_user: valid(max_per_user, faults),
            sale_starts_at: valid(time("sale_starts_at", &self.sale_starts_at), faults),
            sale_ends_at: valid(time("sale_ends_at", &self.sale_ends_at), faults),
        };
        // If only one of them is given, PostgreSQL compares it with the product's other one.
        if let (Some(start), Some(end)) = (
            policy.sale_starts_at.flatten(),
            policy.sale_ends_at.flatten(),
        ) && end <= start
        {
            faults.push(InvalidProduct::Window);
        }
        policy
    }
}

/// The value, if it is valid. Otherwise, its fault is one more of the product's.
fn valid<T: Default>(value: Result<T, InvalidProduct>, faults: &mut Vec<InvalidProduct>) -> T {
    value.unwrap_or_else(|fault| {
        faults.push(fault);
        T::default()
    })
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

pub(crate) fn create_operation() -> Operation {
    Operation::new("createProduct", "Create a product")
        .explained(
            "All units of the new product are free. This request is not idempotent: send an `Idempotency-Key` to \
            make a repeat safe.",
        )
        .refuses(&[ProblemCode::SkuTaken, ProblemCode::InvalidProduct])
}

pub(crate) async fn create(
    _: Admin,
    State(bulkhead): State<&'static Bulkhead>,
    Keyed(key, Json(CreateProduct(body))): Keyed<Json<CreateProduct>>,
) -> Result<Rendered<Created<Product>>, Problem> {
    if body.name.is_none() || body.stock.is_none() {
        let fields = [
            ("name", body.name.is_none()),
            ("stock", body.stock.is_none()),
        ];
        let missing = fields.into_iter().filter(|(_, is_missing)| *is_missing);
        let missing =
            missing.map(|(name, _)| Fault::of(&format!("/{name}"), "the field is missing"));
        return Err(Problem::InvalidRequest(missing.collect()));
    }
    let new = new_product(body.validated().map_err(Problem::InvalidProduct)?)?;
    let once = bulkhead.execute_once(
        "create_product",
        About::Nothing,
        key,
        move |executor| async move { product::create(executor, &new).await }.boxed(),
        |_, _| (),
        |created| {
            let body = created.clone()?;
            let path = format!("/products/{}", body.id);
            Ok(Created { path, body })
        },
    );
    once.await
}

fn new_product(valid: ValidProduct) -> Result<NewProduct, InvalidProduct> {
    let name = valid.name.ok_or(InvalidProduct::Name)?;
    let stock = valid.stock.ok_or(InvalidProduct::Stock)?;
    Ok(NewProduct::new(name.as_str().to_owned(), stock.into(), valid.policy)?.with_sku(valid.sku))
}

pub(crate) fn change_operation() -> Operation {
    Operation::new(
        "changeProduct",
        "Change a product's name or the rules of its sale",
    )
    .explained(
        "Absent fields stay unchanged. `null` removes a rule. Existing holds do not change. A product without a `sku` \
        can get one.",
    )
    .refuses(&[
        ProblemCode::SkuTaken,
        ProblemCode::SkuFixed,
        ProblemCode::InvalidProduct,
    ])
}

pub(crate) async fn change(
    _: Admin,
    Id(id): Id<ProductId>,
    State(bulkhead): State<&'static Bulkhead>,
    State(sale): State<&'static Sale>,
    Json(ChangeProduct(body)): Json<ChangeProduct>,
) -> Result<Answer<Product>, Problem> {
    if body.stock.is_some() {
        let detail = "to change the stock, use POST /products/{id}/stock";
        return Err(Fault::of("/stock", detail).into());
    }
    let valid = body.validated().map_err(Problem::InvalidProduct)?;
    let (pool, after_commit) = (bulkhead.pool(), bulkhead.after_commit());
    let changed = bulkhead.execute_about(About::Products(vec![id]), "change_product", async move {
        let (name, sku) = (valid.name.as_ref(), valid.sku.as_ref());
        let changed = product::change(&pool, id, name, sku, &valid.policy, &sale.events).await?;
        after_commit.tell(changed.transitions());
        Ok(changed.answer)
    });
    match changed.await?? {
        Some(product) => Ok(Answer(product)),
        None => Err(Refusal::ProductNotFound.into()),
    }
}

pub(crate) fn list_operation() -> Operation {
    Operation::new("listProducts", "Products, by id")
        .explained(
            "All products. With `limit` or `after_id`, one page of them. With `sku`, the product that has it, if there \
            is one.",
        )
}

pub(crate) async fn list(
    _: Client,
    listed: Listed,
    uri: Uri,
    known: IfNoneMatch,
    State(lists): State<&'static Lists>,
    State(bulkhead): State<&'static Bulkhead>,
) -> Result<Tagged<Paged<Product>>, Problem> {
    let (limit, after) = match listed {
        Listed::Page { limit, after } => (limit, after),
        Listed::Whole => {
            let whole = lists.whole.ask(0, ()).await??;
            return Ok(Paged::whole(whole).tagged(&known));
        }
        Listed::Sku(sku) => {
            let products = lists.with_sku(&sku).await?;
            return Ok(Paged::of(products).tagged(&known));
        }
    };
    let pool = bulkhead.pool();
    let listed = bulkhead.execute("list_products", async move {
        // One row more shows whether there is a next page.
        product::page(&pool, after, limit + 1).await
    });
    let page = Paged::new(&uri, listed.await?, limit, |last| last.id.get());
    Ok(page.tagged(&known))
}

/// Which products to list.
pub(crate) enum Listed {
    Whole,
    Page {
        limit: i64,
        /// The id before the page.
        after: Option<ProductId>,
    },
    Sku(Sku),
}

impl<S: Send + Sync> FromRequestParts<S> for Listed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let (mut limit, mut after, mut sku) = (None, None, None);
        for (name, value) in query_pairs(parts)? {
            match name.as_str() {
                "limit" => limit = Some(paging::limit(&name, &value)?),
                "after_id" => after = Some(paging::id(&name, &value)?),
                "sku" => sku = Some(paging::parsed(&name, &value)?),
                _ => return Err(paging::unknown(&name)),
            }
        }
        match (sku, limit, after) {
            (Some(sku), None, None) => Ok(Self::Sku(sku)),
            (Some(_), ..) => Err(Problem::InvalidQuery(
                "sku cannot be combined with limit or after_id".to_owned(),
            )),
            (None, None, None) => Ok(Self::Whole),
            (None, limit, after) => Ok(Self::Page {
                limit: limit.unwrap_or(paging::DEFAULT_LIMIT),
                after,
            }),
        }
    }
}

impl Describe for Listed {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let sku = schemas.request_schema::<Sku>();
        let words = "Only the product with this SKU. Cannot be combined with the other parameters.";
        paging::parameter(operation, "sku", words, sku);
        paging::describe::<ProductId>(operation, schemas);
    }
}

pub(crate) fn get_operation() -> Operation {
    Operation::new("getProduct", "A product")
}

pub(crate) async fn get(
    _: Client,
    Id(id): Id<ProductId>,
    known: IfNoneMatch,
    State(lanes): State<&'static Lanes>,
) -> Result<Tagged<Answer<Product>>, Problem> {
    match lanes.ask(id.get(), id).await? {
        Some(product) => Ok(Answer(product).tagged(&known)),
        None => Err(Refusal::ProductNotFound.into()),
    }
}
