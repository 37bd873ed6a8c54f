//! Permits for calls without a lane, with a share for each product: calls that wait for one busy or locked product leave
//! permits to the others.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex},
};

use runtime::lock;
use tokio::sync::oneshot;

/// Stands for the product of calls whose product is not known.
pub(crate) const UNNAMED: i64 = i64::MIN;

/// A number of permits. Those with one key in common are at most a share of all. Who waits longest comes first, among those
/// whose shares are not used up.
#[derive(Clone)]
pub(crate) struct Permits(Arc<Shared>);

struct Shared {
    total: usize,
    share: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: usize,
    used_of: HashMap<i64, usize>,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    keys: Vec<i64>,
    granted: oneshot::Sender<Permit>,
}

/// A permit. It is free again when it is dropped.
pub(crate) struct Permit {
    keys: Vec<i64>,
    permits: Permits,
}

impl Permits {
    /// A share is less than half: a product's calls may also have those of [`UNNAMED`].
    pub(crate) fn new(total: usize) -> Self {
        let share = (total.saturating_sub(1) / 2).max(1);
        let state = Mutex::default();
        Self(Arc::new(Shared {
            total,
            share,
            state,
        }))
    }

    /// A permit, if there is one at once.
    pub(crate) fn try_acquire(&self, keys: &[i64]) -> Option<Permit> {
        // Nobody who waits could have it, because each permit that gets free is granted at once.
        lock(&self.0.state)
            .take(&self.0, keys)
            .then(|| self.permit(keys))
    }

    /// Waits for a permit. Each key counts once.
    pub(crate) async fn acquire(&self, mut keys: Vec<i64>) -> Option<Permit> {
        keys.sort_unstable();
        keys.dedup();
        let (granted, permit) = oneshot::channel();
        lock(&self.0.state)
            .waiting
            .push_back(Waiting { keys, granted });
        self.grant();
        permit.await.ok()
    }

    fn permit(&self, keys: &[i64]) -> Permit {
        let (keys, permits) = (keys.to_vec(), self.clone());
        Permit { keys, permits }
    }

    /// Gives free permits to those who wait.
    fn grant(&self) {
        let mut unused = Vec::new();
        let mut passed_over = Vec::new();
        let mut guard = lock(&self.0.state);
        let state = &mut *guard;
        // Without a free permit, it only removes those that have given up, as far as they come first. All wait for the same
        // time at most, so that few remain behind one that still waits.
        while let Some(waiting) = state
            .waiting
            .pop_front_if(|first| state.used < self.0.total || first.granted.is_closed())
        {
            if waiting.granted.is_closed() {
                // Its client has gone, or it has waited for too long.
            } else if state.take(&self.0, &waiting.keys) {
                let permit = self.permit(&waiting.keys);
                unused.extend(waiting.granted.send(permit).err());
            } else {
                passed_over.push(waiting);
            }
        }
        for waiting in passed_over.into_iter().rev() {
            state.waiting.push_front(waiting);
        }
        drop(guard);
        // Dropped without the mutex, because that takes it.
        drop(unused);
    }
}

impl State {
    /// Counts a permit as used, if there is one for these keys.
    fn take(&mut self, shared: &Shared, keys: &[i64]) -> bool {
        let has_share = |key| self.used_of.get(key).copied().unwrap_or(0) < shared.share;
        let taken = self.used < shared.total && keys.iter().all(has_share);
        if taken {
            self.used += 1;
            for key in keys {
                *self.used_of.entry(*key).or_default() += 1;
            }
        }
        taken
    }

    fn put_back(&mut self, keys: &[i64]) {
        self.used -= 1;
        for key in keys {
            if let Entry::Occupied(mut used) = self.used_of.entry(*key) {
                *used.get_mut() -= 1;
                if *used.get() == 0 {
                    used.remove();
                }
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.permits.0.state).put_back(&self.keys);
        self.permits.grant();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn one_key_leaves_permits_to_the_others() {
        let permits = Permits::new(5);
        let busy: Vec<Permit> = (0..2).map(|_| permits.try_acquire(&[1]).unwrap()).collect();
        let mut waiting = Box::pin(permits.acquire(vec![1]));
        assert!(waiting.as_mut().now_or_never().is_none());
        // Also an order with it waits, and takes nothing from the other product meanwhile.
        let mut order = Box::pin(permits.acquire(vec![2, 1]));
        assert!(order.as_mut().now_or_never().is_none());
        let others: Vec<Permit> = (0..2).map(|_| permits.try_acquire(&[2]).unwrap()).collect();
        assert!(permits.try_acquire(&[2]).is_none());
        // A call without a key may have any permit, but there are not more than five.
        let any = permits.try_acquire(&[]).unwrap();
        assert!(permits.try_acquire(&[3]).is_none());
        drop(any);
        drop(busy);
        assert!(waiting.now_or_never().flatten().is_some());
        assert!(order.as_mut().now_or_never().is_none());
        drop(others);
        assert!(order.now_or_never().flatten().is_some());
    }

    #[test]
    fn a_permit_that_nobody_waits_for_any_more_is_free() {
        let permits = Permits::new(1);
        let only = permits
            .acquire(vec![7, 7])
            .now_or_never()
            .flatten()
            .unwrap();
        let mut gone = Box::pin(permits.acquire(vec![7]));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut granted = Box::pin(permits.acquire(vec![7]));
        assert!(granted.as_mut().now_or_never().is_none());
        drop(gone);
        drop(only);
        // It was granted, but is dropped unread.
        drop(granted);
        assert!(permits.try_acquire(&[7]).is_some());
        assert!(permits.try_acquire(&[7]).is_some());
    }

    #[test]
    fn who_has_given_up_does_not_stay_in_the_queue() {
        let permits = Permits::new(1);
        let only = permits.try_acquire(&[]).unwrap();
        for _ in 0..1000 {
            assert!(permits.acquire(vec![]).now_or_never().is_none());
        }
        // The last one was dropped after it had looked.
        assert_eq!(lock(&permits.0.state).waiting.len(), 1);
        drop(only);
        assert!(lock(&permits.0.state).waiting.is_empty());
    }
}
