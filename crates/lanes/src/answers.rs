//! The answers of one call.

/// The answers of a call: one for each request, in the order of the requests, with the answers for latecomers last.
///
/// If requests wait, the lane sends the next call before it makes them. So what that call need not wait for, such as
/// rendering, belongs in [`Answers::later`].
#[must_use]
pub struct Answers<A>(Box<dyn FnOnce() -> Vec<A> + Send>);

impl<A: 'static> Answers<A> {
    /// Answers that `make` makes once the next call was sent, if there is one. It must not block.
    pub fn later(make: impl FnOnce() -> Vec<A> + Send + 'static) -> Self {
        Self(Box::new(make))
    }

    /// Makes the answers.
    pub fn make(self) -> Vec<A> {
        (self.0)()
    }
}

/// Answers that exist already.
impl<A: Send + 'static> From<Vec<A>> for Answers<A> {
    fn from(answers: Vec<A>) -> Self {
        Self::later(|| answers)
    }
}
