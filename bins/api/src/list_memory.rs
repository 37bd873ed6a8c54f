//! The memory of rendered lists. A list is rendered once per batch, and all answers of the batch share its bytes.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::HeaderValue,
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};
use lanes::NoAnswer;
use runtime::lock;
use serde::Serialize;

use crate::{
    etag,
    json::{self, JSON},
};

/// Most bytes of all rendered lists that clients have not read yet. A list has about 200 bytes per product. Without
/// this limit, a few thousand clients that do not read could hold as many different lists.
const MAX_BYTES: usize = 64 << 20;

/// A connection has at most two chunks of a list that was given up. All answers with a list share its chunks.
const CHUNK_BYTES: usize = 16 * 1024;

/// The rendered lists that clients have not read yet, the oldest first. If a new list needs their memory, the oldest are
/// given up, and their connections end. To refuse the new list instead would let a few clients that read slowly deny the
/// list to all others.
#[derive(Clone)]
pub(crate) struct ListMemory {
    unread: Arc<Mutex<VecDeque<Weak<List>>>>,
    max_bytes: usize,
}

impl Default for ListMemory {
    fn default() -> Self {
        Self::of(MAX_BYTES)
    }
}

/// A list as JSON, and the tag of this JSON. Clones share the bytes, which are free again when the last answer with them
/// was sent.
#[derive(Clone)]
pub(crate) struct RenderedList(Arc<List>);

struct List {
    tag: HeaderValue,
    bytes: usize,
    /// `None`: the list was given up.
    chunks: Mutex<Option<Vec<Bytes>>>,
}

impl ListMemory {
    fn of(max_bytes: usize) -> Self {
        Self {
            unread: Arc::default(),
            max_bytes,
        }
    }

    /// The rows as JSON.
    pub(crate) fn rendered<T: Serialize>(&self, rows: &[T]) -> Result<RenderedList, NoAnswer> {
        let json = serde_json::to_vec(rows).map_err(|error| {
            tracing::error!(%error, "a list cannot be written as JSON");
            NoAnswer::Overloaded
        })?;
        let list = Arc::new(List {
            tag: etag::of(&json),
            bytes: json.len(),
            chunks: Mutex::new(Some(
                json.chunks(CHUNK_BYTES)
                    .map(Bytes::copy_from_slice)
                    .collect(),
            )),
        });
        self.make_room(&list);
        Ok(RenderedList(list))
    }

    /// Adds the list, and gives up the oldest ones if all of them are too large together. A list that is larger than all
    /// the memory can still be sent, alone.
    fn make_room(&self, list: &Arc<List>) {
        let mut unread = lock(&self.unread);
        unread.retain(|list| list.strong_count() > 0);
        let bytes = unread.iter().filter_map(Weak::upgrade).map(|of| of.bytes);
        let mut bytes = bytes.sum::<usize>() + list.bytes;
        let mut given_up = 0;
        while bytes > self.max_bytes
            && let Some(oldest) = unread.pop_front()
        {
            if let Some(oldest) = oldest.upgrade() {
                *lock(&oldest.chunks) = None;
                bytes -= oldest.bytes;
                given_up += 1;
            }
        }
        unread.push_back(Arc::downgrade(list));
        if given_up > 0 {
            tracing::warn!(
                lists = given_up,
                "clients read their lists of products too slowly: their connections end"
            );
        }
    }
}

impl RenderedList {
    pub(crate) fn tag(&self) -> HeaderValue {
        self.0.tag.clone()
    }
}

impl IntoResponse for RenderedList {
    fn into_response(self) -> Response {
        let unread = Unread {
            left: self.0.bytes,
            list: self.0,
            next: 0,
        };
        json::response(JSON, Body::new(unread))
    }
}

/// The rest of a list that a client has not read yet.
struct Unread {
    list: Arc<List>,
    /// The next chunk.
    next: usize,
    left: usize,
}

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = lock(&self.list.chunks)
            .as_ref()
            .and_then(|chunks| chunks.get(self.next).cloned());
        let frame = chunk.map(|chunk| {
            self.next += 1;
            self.left -= chunk.len();
            Frame::data(chunk)
        });
        Poll::Ready(Some(frame.ok_or_else(|| {
            io::Error::other("the client read its list too slowly")
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use axum::body;

    use super::*;

    async fn read(list: RenderedList) -> Option<usize> {
        let body = list.into_response().into_body();
        let read = body::to_bytes(body, usize::MAX).await;
        read.ok().map(|bytes| bytes.len())
    }

    #[tokio::test]
    async fn unread_lists_use_no_more_than_their_memory_and_the_newest_can_be_read() {
        let memory = ListMemory::of(1 << 20);
        let rendered = |rows: usize| {
            let list = memory.rendered(&vec!["x".repeat(1021); rows]);
            list.unwrap_or_else(|_| panic!("a list"))
        };
        // Each has 100 KiB: seven chunks.
        let mut unread: Vec<_> = (0..30).map(|_| rendered(100)).collect();
        let bytes = unread[0].0.bytes;
        let held = |list: &&RenderedList| lock(&list.0.chunks).is_some();
        assert_eq!(unread.iter().filter(held).count(), 10);
        // Answers of the same batch share the memory.
        let again = unread[29].clone();
        for (number, list) in unread.drain(..).enumerate() {
            let expected = (number >= 20).then_some(bytes);
            assert_eq!(read(list).await, expected, "{number}");
        }
        // What was read is free again.
        for _ in 0..30 {
            assert_eq!(read(rendered(100)).await, Some(bytes));
        }
        assert_eq!(read(again).await, Some(bytes));
        let larger_than_all = read(rendered(2000)).await;
        assert!(larger_than_all.is_some_and(|read| read > 1 << 20));
        assert_eq!(read(rendered(0)).await, Some("[]".len()));
    }
}
