//! The reply to come, which hooks on a message may add to (rules G-1, V-24).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bayeux_core::Verdict;
use bayeux_proto::{Advice, ByteString, Lazy, Message, RawJson};

/// What hooks add to the reply of the message that they decide on: what CometD calls the associated message. Cheap to
/// clone; all clones are about the same reply.
#[derive(Clone, Default)]
pub struct Associated(Arc<Mutex<Additions>>);

#[derive(Debug, Default)]
struct Additions {
    advice: Advice,
    ext: Option<RawJson>,
    fields: Vec<(ByteString, RawJson)>,
    lazy: Option<Lazy>,
}

/// Fields that hooks may add to one reply.
const FIELDS_MAX: usize = 1_000;

impl Associated {
    /// Lays advice over the reply's, field by field.
    pub fn advise(&self, advice: Advice) {
        let mut additions = self.additions();
        additions.advice = additions.advice.overlaid_with(advice);
    }

    /// Sets one member of the reply's `ext`.
    pub fn set_ext(&self, name: &str, value: &RawJson) {
        let member = RawJson::from_member(name, value);
        let mut additions = self.additions();
        additions.ext = Some(match additions.ext.take() {
            Some(earlier) => earlier.overlaid_with(&member),
            None => member,
        });
    }

    /// Sets a further field of the reply, such as `authentication`. Names that have a meaning of their own in the
    /// protocol are ignored, and so is what exceeds 1,000 fields.
    pub fn set_field(&self, name: &str, value: RawJson) {
        if Message::is_known_field(name) {
            return;
        }
        let key = ByteString::from(RawJson::from_text(name).as_str());
        let mut additions = self.additions();
        additions.fields.retain(|(other, _)| *other != key);
        if additions.fields.len() < FIELDS_MAX {
            additions.fields.push((key, value));
        }
    }

    pub(crate) fn set_lazy(&self, lazy: Lazy) {
        self.additions().lazy = Some(lazy);
    }

    /// Moves the additions into a verdict.
    pub(crate) fn add_to(&self, mut verdict: Verdict) -> Verdict {
        let additions = std::mem::take(&mut *self.additions());
        verdict.advice = additions.advice.overlaid_with(verdict.advice);
        verdict.ext = match (additions.ext, verdict.ext) {
            (Some(below), Some(above)) => Some(below.overlaid_with(&above)),
            (below, above) => above.or(below),
        };
        verdict.fields.extend(additions.fields);
        verdict.lazy = verdict.lazy.or(additions.lazy);
        verdict
    }

    fn additions(&self) -> MutexGuard<'_, Additions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Associated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.additions().fmt(f)
    }
}
