//! Open questions to hooks.

use crate::event::{Question, Verdict};
use crate::time::Time;

/// The name of a decision, unique in its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId(pub(crate) u64);

/// A question that waits for its answer. Dropping it is safe, since the deadline denies, but leaves the client waiting.
#[derive(Debug)]
#[must_use = "the lane stays parked until the decision is answered or expires"]
pub struct Decision {
    pub(crate) id: DecisionId,
    pub(crate) question: Question,
    pub(crate) deadline: Time,
}

impl Decision {
    /// Its name.
    pub fn id(&self) -> DecisionId {
        self.id
    }

    /// What is asked.
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// When the answer becomes no.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// The answer, as an input for [`Engine::handle`](crate::Engine::handle).
    pub fn answer(self, verdict: Verdict) -> crate::Input {
        crate::Input::Decided(Decided { id: self.id, verdict })
    }
}

/// An answered [`Decision`].
#[derive(Debug)]
pub struct Decided {
    pub(crate) id: DecisionId,
    pub(crate) verdict: Verdict,
}
