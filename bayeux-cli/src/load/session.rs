//! One Bayeux session of the generator: what it is, and what it has under way.

use std::collections::VecDeque;

use serde::Deserialize;

use super::ledger::Way;
use super::scan::Fields;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its turn has not come.
    New,
    /// It has asked for a handshake.
    Handshaking,
    /// It has its id, and subscribes and connects for the first time.
    Joining,
    /// It takes part.
    Ready,
    /// It disconnects.
    Leaving,
    /// It has disconnected.
    Left,
    /// It has ended before its time.
    Gone,
}

/// A publish whose reply has not come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outstanding {
    /// The message's id.
    pub(crate) id: u32,
    /// Where it was published.
    pub(crate) room: u32,
    /// Which slot of the window waits for it.
    pub(crate) slot: u32,
    /// When it was due, in nanoseconds of the run.
    pub(crate) due: u64,
}

/// One direction of a session's requests: a connection, and what waits for it.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// The envelope to send next, from its bracket on; empty if there is none.
    pub(crate) envelope: Vec<u8>,
    /// There is a connection, or one is being made.
    pub(crate) linked: bool,
    /// Requests may be sent on it.
    pub(crate) open: bool,
    /// On HTTP: a request has no response so far.
    pub(crate) busy: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its index in the plan.
    pub(crate) index: u32,
    /// How far it has come.
    pub(crate) stage: Stage,
    /// Its id, as it is written inside of a JSON string.
    pub(crate) client_id: String,
    /// The cookies of its handshake, as it sends them.
    pub(crate) cookie: String,
    /// Connections; WebSocket has only the first.
    pub(crate) lanes: [Lane; 2],
    /// Milliseconds to wait before each connect, as advised.
    pub(crate) interval_ms: u64,
    /// The last batch that was received, where batches are acknowledged.
    pub(crate) ack: Option<String>,
    /// Subscriptions without reply.
    pub(crate) subscribing: usize,
    /// The first connect has been answered.
    pub(crate) connected: bool,
    /// Publishes without reply, oldest first.
    pub(crate) outstanding: VecDeque<Outstanding>,
    /// Of the next publish.
    pub(crate) next_id: u32,
    /// Messages published so far, which rooms are chosen by.
    pub(crate) published: u64,
    /// Deliveries that it got, each counted once.
    pub(crate) delivered: u64,
    /// Where its accounts begin among those of all sessions.
    pub(crate) accounts: usize,
}

impl Session {
    /// A session whose turn has not come.
    pub(crate) fn new(index: u32, accounts: usize) -> Self {
        Self {
            index,
            stage: Stage::New,
            client_id: String::new(),
            cookie: String::new(),
            lanes: [Lane::default(), Lane::default()],
            interval_ms: 0,
            ack: None,
            subscribing: 0,
            connected: false,
            outstanding: VecDeque::new(),
            next_id: 0,
            published: 0,
            delivered: 0,
            accounts,
        }
    }

    /// The lane of a way.
    pub(crate) fn lane(&mut self, way: Way) -> &mut Lane {
        &mut self.lanes[way as usize]
    }

    /// Takes the cookies of a response to send them with every request from then on.
    pub(crate) fn take_cookies(&mut self, cookies: &[String]) {
        for cookie in cookies {
            if !self.cookie.is_empty() {
                self.cookie.push_str("; ");
            }
            self.cookie.push_str(cookie);
        }
    }

    /// The publish that a reply with this id is for.
    pub(crate) fn answered(&mut self, id: u32) -> Option<Outstanding> {
        if self.outstanding.front().is_some_and(|first| first.id == id) {
            return self.outstanding.pop_front();
        }
        let index = self.outstanding.iter().position(|outstanding| outstanding.id == id)?;
        self.outstanding.remove(index)
    }
}

impl Lane {
    /// Opens the envelope for one more message.
    pub(crate) fn message(&mut self) -> &mut Vec<u8> {
        self.envelope.push(if self.envelope.is_empty() { b'[' } else { b',' });
        &mut self.envelope
    }
}

/// What a server advises, as far as the generator follows it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Advice {
    /// `retry`, `handshake` or `none`.
    pub(crate) reconnect: Option<String>,
    /// Milliseconds between a connect's reply and the next.
    pub(crate) interval: Option<f64>,
}

impl Advice {
    /// The advice of a message; what cannot be understood is none.
    pub(crate) fn of(fields: &Fields<'_>) -> Self {
        fields.advice.and_then(|advice| serde_json::from_slice(advice.0).ok()).unwrap_or_default()
    }

    /// Whether the session goes on.
    pub(crate) fn goes_on(&self) -> bool {
        self.reconnect.as_deref().is_none_or(|reconnect| reconnect == "retry")
    }
}

/// The acknowledgement extension in a reply.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Acknowledgement {
    /// It is supported, or not.
    Supported(bool),
    /// A batch's number.
    Batch(serde_json::Number),
    /// It is supported, and this is the number to begin with.
    Enabled {
        /// Whether it is.
        enabled: bool,
        /// The number.
        batch: serde_json::Number,
    },
}

impl Acknowledgement {
    /// That of a message.
    pub(crate) fn of(fields: &Fields<'_>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Ext {
            ack: Option<Acknowledgement>,
        }
        serde_json::from_slice::<Ext>(fields.ext?.0).ok()?.ack
    }
}

/// Why a reply is not successful: its error, or what is known instead.
pub(crate) fn reason(fields: &Fields<'_>) -> String {
    let error = fields.error.and_then(|error| error.string()).map(|error| String::from_utf8_lossy(&error).into_owned());
    error.unwrap_or_else(|| "refused without an error".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::scan;

    fn fields(text: &str) -> Fields<'_> {
        scan::messages(text.as_bytes()).next().and_then(Result::ok).expect("a message")
    }

    #[test]
    fn advice_and_acknowledgement_are_understood_in_all_forms() {
        let advice = Advice::of(&fields(r#"{"advice":{"reconnect":"handshake","interval":500,"timeout":1}}"#));
        assert_eq!((advice.goes_on(), advice.interval), (false, Some(500.0)));
        assert!(Advice::of(&fields(r#"{"advice":{"reconnect":7}}"#)).goes_on());
        assert!(Advice::of(&fields("{}")).goes_on());
        let ack = |text| Acknowledgement::of(&fields(text));
        assert!(matches!(ack(r#"{"ext":{"ack":true}}"#), Some(Acknowledgement::Supported(true))));
        assert!(
            matches!(ack(r#"{"ext":{"ack":12,"x":1}}"#), Some(Acknowledgement::Batch(n)) if n.as_u64() == Some(12))
        );
        let enabled = ack(r#"{"ext":{"ack":{"enabled":true,"batch":3}}}"#);
        assert!(
            matches!(enabled, Some(Acknowledgement::Enabled { enabled: true, batch }) if batch.as_u64() == Some(3))
        );
        assert!(ack(r#"{"ext":{}}"#).is_none() && ack("{}").is_none());
    }

    #[test]
    fn replies_find_their_publish_in_any_order() {
        let mut session = Session::new(0, 0);
        for id in 1..5 {
            session.outstanding.push_back(Outstanding { id, room: 0, slot: 0, due: u64::from(id) });
        }
        let order = [1, 3, 4, 2, 2].map(|id| session.answered(id).map(|outstanding| outstanding.due));
        assert_eq!(order, [Some(1), Some(3), Some(4), Some(2), None]);
    }
}
