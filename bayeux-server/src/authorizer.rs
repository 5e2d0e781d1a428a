//! Authorizers: who may do what on which channels, decided where the channels are (rules A-50 to A-56).

use std::future::Future;
use std::sync::Arc;

use bayeux_core::{Ruling, Verdict};
use bayeux_proto::{ByteString, ChannelPattern, ErrorField};

use crate::policy::{Asked, Boxed};

/// What somebody wants to do with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Create it, since it does not exist (rule A-53).
    Create,
    /// Subscribe to it.
    Subscribe,
    /// Publish on it.
    Publish,
}

/// What an [`Authorizer`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// Yes, unless another says no.
    Grant,
    /// Nothing: where nobody grants, the answer is no.
    Ignore,
    /// No, whatever others say, for this reason (rule A-51).
    Deny {
        /// What stands between the colons of the error.
        reason: ByteString,
    },
}

impl Authorization {
    /// No, for a reason.
    pub fn deny(reason: impl Into<ByteString>) -> Self {
        Self::Deny { reason: reason.into() }
    }
}

/// Says who may do what on the channels it is attached to.
///
/// Attached to a wildcard it speaks for all channels that the wildcard matches. For an operation on a channel all
/// authorizers on the channel itself and on the wildcards that match it are asked, from the widest wildcard to the
/// channel, after the [`Policy`](crate::Policy) said yes:
///
/// - with none of them, the operation is granted;
/// - one that denies decides;
/// - else one that grants decides;
/// - else the operation is denied with `denied_by_not_granting`.
///
/// So one authorizer on `/**` turns everything to "no unless granted" (rule A-52), and one on `/a/b` is not asked when
/// somebody subscribes to `/a/*`: protect wildcards themselves (rule A-56).
///
/// Closures `async |operation, channel, asked| -> Authorization` are authorizers.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether the sender of the message may do `operation` on `channel`. No answer in time, or a panic, is a no.
    fn authorize(
        &self,
        operation: Operation,
        channel: ChannelPattern,
        asked: Asked,
    ) -> impl Future<Output = Authorization> + Send;
}

impl<F, R> Authorizer for F
where
    F: Fn(Operation, ChannelPattern, Asked) -> R + Send + Sync + 'static,
    R: Future<Output = Authorization> + Send,
{
    fn authorize(
        &self,
        operation: Operation,
        channel: ChannelPattern,
        asked: Asked,
    ) -> impl Future<Output = Authorization> + Send {
        self(operation, channel, asked)
    }
}

/// Grants a set of operations to everybody, and never denies (rule A-55).
///
/// ```
/// use bayeux_server::GrantAuthorizer;
///
/// let publish_and_subscribe = GrantAuthorizer::PUBLISH.with(GrantAuthorizer::SUBSCRIBE);
/// # let _ = publish_and_subscribe;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantAuthorizer(u8);

impl GrantAuthorizer {
    /// Grants nothing. On `/**` it makes everything need a grant elsewhere.
    pub const NONE: Self = Self(0);
    /// Grants creation.
    pub const CREATE: Self = Self(1);
    /// Grants subscription.
    pub const SUBSCRIBE: Self = Self(1 << 1);
    /// Grants publishing.
    pub const PUBLISH: Self = Self(1 << 2);
    /// Grants everything.
    pub const ALL: Self = Self(7);

    /// Grants what either grants.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn grants(self, operation: Operation) -> bool {
        let bit = match operation {
            Operation::Create => Self::CREATE,
            Operation::Subscribe => Self::SUBSCRIBE,
            Operation::Publish => Self::PUBLISH,
        };
        self.0 & bit.0 != 0
    }
}

impl Authorizer for GrantAuthorizer {
    async fn authorize(&self, operation: Operation, _: ChannelPattern, _: Asked) -> Authorization {
        if self.grants(operation) { Authorization::Grant } else { Authorization::Ignore }
    }
}

/// [`Authorizer`] behind a pointer.
pub(crate) trait DynAuthorizer: Send + Sync {
    fn authorize(&self, operation: Operation, channel: ChannelPattern, asked: Asked) -> Boxed<'_, Authorization>;
}

impl<A: Authorizer> DynAuthorizer for A {
    fn authorize(&self, operation: Operation, channel: ChannelPattern, asked: Asked) -> Boxed<'_, Authorization> {
        Box::pin(Authorizer::authorize(self, operation, channel, asked))
    }
}

/// Asks one after the other (rule A-51).
pub(crate) async fn decide(
    authorizers: Vec<Arc<dyn DynAuthorizer>>,
    operation: Operation,
    channel: &ChannelPattern,
    asked: Asked,
) -> Verdict {
    let mut granted = authorizers.is_empty();
    for authorizer in authorizers {
        match authorizer.authorize(operation, channel.clone(), asked.clone()).await {
            Authorization::Grant => granted = true,
            Authorization::Ignore => {}
            Authorization::Deny { reason } => return denied(reason),
        }
    }
    if granted { Verdict::allow() } else { denied(ByteString::from_static(ErrorField::BY_NOT_GRANTING)) }
}

fn denied(reason: ByteString) -> Verdict {
    Verdict { ruling: Ruling::Deny { reason: Some(reason) }, ..Verdict::allow() }
}
