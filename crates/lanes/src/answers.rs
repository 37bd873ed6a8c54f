//! The answers of one call.

use std::time::Duration;

/// The answers of a call: one for each request, in the order of the requests.
///
/// If requests wait, and the lane does not gather more, it sends the next call before it makes them. So what that call need not wait for, such as
/// rendering, belongs in [`Answers::later`].
#[must_use]
pub struct Answers<A> {
    make: Box<dyn FnOnce() -> Vec<A> + Send>,
    waited: Duration,
}

impl<A: 'static> Answers<A> {
    /// Answers that `make` makes once the next call was sent, if there is one. It must not block.
    pub fn later(make: impl FnOnce() -> Vec<A> + Send + 'static) -> Self {
        Self {
            make: Box::new(make),
            waited: Duration::ZERO,
        }
    }

    /// The call has waited so long for locks that others held. The lane then gathers requests before its next call.
    pub fn after_wait(self, waited: Duration) -> Self {
        Self { waited, ..self }
    }

    /// Other answers of the same call, which `change` makes of these.
    pub fn map<B: 'static>(
        self,
        change: impl FnOnce(Vec<A>) -> Vec<B> + Send + 'static,
    ) -> Answers<B> {
        Answers::later(|| change((self.make)())).after_wait(self.waited)
    }

    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    pub(crate) fn make(self) -> Vec<A> {
        (self.make)()
    }
}

/// Answers that exist already.
impl<A: Send + 'static> From<Vec<A>> for Answers<A> {
    fn from(answers: Vec<A>) -> Self {
        Self::later(|| answers)
    }
}
