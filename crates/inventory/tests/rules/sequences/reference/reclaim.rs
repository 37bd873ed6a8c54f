//! Which due holds a reserve ends.

use inventory::reservation::Status;

use super::{Reference, Request};

impl Reference {
    /// Which due holds of a product a reserve may and must expire: the users' own, and of the others the longest
    /// overdue ones, no more than needed. None if nothing is on sale.
    pub(super) fn check_expired(
        &self,
        product: usize,
        requests: &[Request],
        expired: &[usize],
    ) -> Result<(), String> {
        // Those in line come first.
        let on_sale = self.is_on_sale(product) && self.line(product).is_empty();
        let requests: Vec<&Request> = requests
            .iter()
            .filter(|request| request.product == Some(product) && on_sale)
            .collect();
        let due = self.due(product);
        let asks = |hold: &usize| {
            let user = self.holds[*hold].user;
            requests.iter().any(|request| request.user == user)
        };
        let (own, others): (Vec<usize>, Vec<usize>) = due.iter().partition(|hold| asks(hold));
        let ended: Vec<usize> = due
            .iter()
            .copied()
            .filter(|hold| expired.contains(hold))
            .collect();
        let reclaimed: Vec<usize> = ended.iter().copied().filter(|hold| !asks(hold)).collect();
        if let Some(left) = own.iter().find(|hold| !ended.contains(hold)) {
            return Err(format!("the user's own due hold {left} was left"));
        }
        if !others.starts_with(&reclaimed) {
            return Err(format!(
                "reclaimed {reclaimed:?}, where the longest due are {others:?}"
            ));
        }
        let is_live = |user| {
            let mut holds = self.holds.iter();
            holds.any(|hold| {
                (hold.product, hold.user) == (product, user)
                    && hold.status == Status::Active
                    && hold.due.is_none()
            })
        };
        let wanted: i32 = requests
            .iter()
            .filter(|request| !is_live(request.user))
            .map(|request| request.quantity)
            .sum();
        let lacking = wanted - self.products[product].stock - self.units(&own);
        if reclaimed.len() as i32 > lacking.max(0) {
            return Err(format!("reclaimed {reclaimed:?} for {lacking} units"));
        }
        Ok(())
    }
}
