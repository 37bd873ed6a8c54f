//! A queue in which keys take turns, so that a key with many items does not keep the others waiting.

use std::collections::{HashMap, VecDeque};

/// The key of items whose own key is not known.
pub(crate) const UNKEYED: i64 = i64::MIN;

/// Items of several keys. The items of one key keep their order.
pub(crate) struct FairQueue<T> {
    /// The keys with items, in the order of their turns.
    turns: VecDeque<i64>,
    /// None of these queues is empty.
    items: HashMap<i64, VecDeque<T>>,
    len: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            items: HashMap::new(),
            len: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Whether one more item of `key` is allowed. A queue of `depth` items is full, but still takes items of a key
    /// that has less than its share, which is `depth` divided by the number of keys.
    pub(crate) fn has_room(&self, key: i64, depth: usize) -> bool {
        if self.len < depth {
            return true;
        }
        let own = self.items.get(&key).map_or(0, VecDeque::len);
        let keys = self.turns.len() + usize::from(own == 0);
        own < depth / keys
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether fewer than `limit` items wait.
    pub(crate) fn is_shorter_than(&self, limit: usize) -> bool {
        self.len < limit
    }

    pub(crate) fn push(&mut self, key: i64, item: T) {
        let own = self.items.entry(key).or_default();
        if own.is_empty() {
            self.turns.push_back(key);
        }
        own.push_back(item);
        self.len += 1;
    }

    /// Takes items until `accept` was true `count` times. Items without a key come first. Then each key has the same
    /// share of the rest. What a key does not use goes to the others.
    pub(crate) fn take(&mut self, count: usize, mut accept: impl FnMut(T) -> bool) {
        let mut room = count - self.take_of(UNKEYED, count, &mut accept);
        self.forget_empty();
        while room > 0 && !self.turns.is_empty() {
            let share = (room / self.turns.len()).max(1);
            for _ in 0..self.turns.len() {
                let Some(key) = self.turns.pop_front() else {
                    return;
                };
                let own = share.min(room);
                room -= self.take_of(key, own, &mut accept);
                if self.items.contains_key(&key) {
                    self.turns.push_back(key);
                }
                if room == 0 {
                    return;
                }
            }
        }
    }

    /// Removes the oldest items of each key as long as `is_overdue`.
    pub(crate) fn remove_overdue(
        &mut self,
        is_overdue: impl Fn(&T) -> bool,
        mut removed: impl FnMut(T),
    ) {
        for own in self.items.values_mut() {
            while let Some(overdue) = own.pop_front_if(|oldest| is_overdue(oldest)) {
                self.len -= 1;
                removed(overdue);
            }
        }
        self.items.retain(|_, own| !own.is_empty());
        self.forget_empty();
    }

    /// Takes items of `key` until `accept` was true `count` times. Returns how many times it was. The caller must
    /// update `turns` if the key has no items any more.
    fn take_of(&mut self, key: i64, count: usize, accept: &mut impl FnMut(T) -> bool) -> usize {
        let Some(own) = self.items.get_mut(&key) else {
            return 0;
        };
        let mut accepted = 0;
        while accepted < count
            && let Some(item) = own.pop_front()
        {
            self.len -= 1;
            accepted += usize::from(accept(item));
        }
        if own.is_empty() {
            self.items.remove(&key);
        }
        accepted
    }

    fn forget_empty(&mut self) {
        if self.turns.len() > self.items.len() {
            self.turns.retain(|key| self.items.contains_key(key));
        }
    }
}
