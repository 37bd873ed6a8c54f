//! `/products`

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use inventory::{
    ProductId,
    product::{self, InvalidProduct, NewProduct},
    reservation::Refusal,
};
use serde::Deserialize;

use crate::{
    AppState, Problem,
    answer::Answer,
    extract::{Admin, Id, Json},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateProduct {
    name: String,
    /// Any number: one that is out of range is an invalid product, not an invalid request.
    stock: serde_json::Number,
}

pub(crate) async fn create(
    _: Admin,
    State(state): State<AppState>,
    Json(body): Json<CreateProduct>,
) -> Result<Response, Problem> {
    let stock = body.stock.as_i64().ok_or(InvalidProduct::Stock)?;
    let new = NewProduct::new(body.name, stock)?;
    let pool = state.pool.clone();
    let created = state
        .call("create_product", async move {
            product::create(&pool, &new).await
        })
        .await?;
    let location = [(header::LOCATION, format!("/products/{}", created.id))];
    Ok((StatusCode::CREATED, location, Answer(created)).into_response())
}

pub(crate) async fn list(State(state): State<AppState>) -> Result<Response, Problem> {
    Ok(Answer(&*state.products.ask(0, ()).await?).into_response())
}

pub(crate) async fn get(
    Id(id): Id<ProductId>,
    State(state): State<AppState>,
) -> Result<Response, Problem> {
    match state.product.ask(id.get(), id).await? {
        Some(product) => Ok(Answer(product).into_response()),
        None => Err(Refusal::ProductNotFound.into()),
    }
}
