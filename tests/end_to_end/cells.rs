//! Cells: `flashsale-api move-product` between two databases, and `migrate --cell`.

mod answers;
mod interruptions;
mod load;
mod refusals;
mod stage;
mod whole;
