//! The memory of rendered lists. A list is rendered once per batch, and all answers of the batch share its bytes.

use std::sync::Arc;

use axum::{body::Bytes, http::HeaderValue};
use lanes::NoAnswer;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::etag;

/// Most bytes of all rendered lists that clients have not read yet. A list has about 200 bytes per product. Without
/// this limit, a few thousand clients that do not read could hold as many different lists.
const MAX_KIB: u32 = 64 * 1024;

/// The memory that rendered lists may still use, in KiB.
#[derive(Clone)]
pub(crate) struct ListMemory(Arc<Semaphore>);

impl Default for ListMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_KIB as usize)))
    }
}

/// A list as JSON, and the tag of this JSON. Clones share the bytes.
#[derive(Clone)]
pub(crate) struct RenderedList {
    pub(crate) json: Bytes,
    pub(crate) tag: HeaderValue,
}

/// A rendered list. Its memory is free again when the last answer with it was sent.
struct List {
    json: Vec<u8>,
    _memory: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for List {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

impl ListMemory {
    /// The rows as JSON, if there is memory for them.
    pub(crate) fn rendered<T: Serialize>(&self, rows: &[T]) -> Result<RenderedList, NoAnswer> {
        let json = serde_json::to_vec(rows).map_err(|error| {
            tracing::error!(%error, "a list cannot be written as JSON");
            NoAnswer::Overloaded
        })?;
        let kib = u32::try_from(json.len() / 1024 + 1).unwrap_or(u32::MAX);
        // A list that is larger than all the memory can still be sent, alone.
        let memory = Arc::clone(&self.0).try_acquire_many_owned(kib.min(MAX_KIB));
        let memory = memory.map_err(|_| {
            tracing::warn!("clients do not read their lists of products: a list was refused");
            NoAnswer::Overloaded
        })?;
        Ok(RenderedList {
            tag: etag::of(&json),
            json: Bytes::from_owner(List {
                json,
                _memory: memory,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_lists_use_no_more_than_their_memory() {
        let memory = ListMemory::default();
        let megabyte = vec!["x".repeat(1023); 1024];
        let mut unread: Vec<Bytes> = Vec::new();
        while let Ok(list) = memory.rendered(&megabyte) {
            unread.push(list.json);
            assert!(unread.len() <= 64, "there is no limit");
        }
        let held: usize = unread.iter().map(Bytes::len).sum();
        assert!(held > 60 << 20, "{held}");
        // A second answer of the same batch uses no memory of its own, and keeps it in use.
        let second = unread[0].clone();
        unread.clear();
        assert!(memory.rendered(&vec![&megabyte; 64]).is_err());
        drop(second);
        let larger_than_all = memory.rendered(&vec![&megabyte; 70]);
        assert!(larger_than_all.is_ok_and(|list| list.json.len() > 70 << 20));
    }
}
