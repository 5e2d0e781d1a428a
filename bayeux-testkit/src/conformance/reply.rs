//! What came back, and what may be asked of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::outcome::{Outcome, Stop, brief, ensure};

/// Whether a message is a reply rather than a delivery (rule M-17).
pub(super) fn is_reply(message: &Value) -> bool {
    let channel = message["channel"].as_str().unwrap_or_default();
    let is_meta = channel.starts_with("/meta/");
    // A disconnect of the server's own accord has no id, and is none of ours to wait for.
    is_meta || message.get("data").is_none()
}

/// Whether `message` answers `request`. Where its id is missing the channel decides: that the id is missing is for one
/// case to find, not for all.
pub(super) fn answers(request: &Value, message: &Value) -> bool {
    if !is_reply(message) {
        return false;
    }
    match (id(request), id(message)) {
        (Some(asked), Some(answered)) => asked == answered,
        _ => message["channel"] == request["channel"],
    }
}

/// A message's id as text; a server may confuse `7` and `"7"`, which is for one case to find, too.
fn id(message: &Value) -> Option<String> {
    match &message["id"] {
        Value::Null => None,
        Value::String(id) => Some(id.clone()),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Some(other.to_string()),
    }
}

/// Requests that have no reply yet. An envelope may have thousands of messages.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    by_id: BTreeMap<String, Value>,
    without_id: Vec<Value>,
}

impl Outstanding {
    /// The messages of an envelope, or the one that is none.
    pub(super) fn new(envelope: &Value) -> Self {
        let mut outstanding = Self::default();
        let messages = envelope.as_array().map_or_else(|| std::slice::from_ref(envelope), Vec::as_slice);
        for message in messages.iter().filter(|message| message.is_object()) {
            match id(message) {
                Some(id) => drop(outstanding.by_id.insert(id, message.clone())),
                None => outstanding.without_id.push(message.clone()),
            }
        }
        outstanding
    }

    /// One of them.
    pub(super) fn any(&self) -> Option<&Value> {
        self.by_id.values().next().or_else(|| self.without_id.first())
    }

    /// Takes the request that a message answers out; says whether there was one.
    pub(super) fn take(&mut self, message: &Value) -> bool {
        if !is_reply(message) {
            return false;
        }
        let id = id(message);
        if id.as_ref().is_some_and(|id| self.by_id.remove(id).is_some()) {
            return true;
        }
        let on_channel = |request: &Value| request["channel"] == message["channel"];
        if let Some(at) = self.without_id.iter().position(on_channel) {
            self.without_id.remove(at);
            return true;
        }
        let named = self.by_id.iter().find(|(_, request)| id.is_none() && on_channel(request));
        match named.map(|(id, _)| id.clone()) {
            Some(id) => self.by_id.remove(&id).is_some(),
            None => false,
        }
    }
}

/// A request and its reply.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) request: Value,
    pub(super) message: Value,
}

impl Reply {
    /// The server did what it was asked for.
    pub(super) fn successful(&self) -> Outcome<&Self> {
        self.expect(self.message["successful"] == true, "a successful reply")
    }

    /// The server said no.
    pub(super) fn refused(&self) -> Outcome<&Self> {
        self.expect(self.message["successful"] == false, "a reply with successful:false")
    }

    /// The server said no, for a reason that it gives in exactly these words.
    pub(super) fn error(&self, error: &str) -> Outcome<&Self> {
        self.refused()?.has("error", error)
    }

    /// The reply carries the request's id.
    pub(super) fn echoes_id(&self) -> Outcome<&Self> {
        self.expect(self.message["id"] == self.request["id"], "a reply with the request's id")
    }

    /// The reply is on the request's channel.
    pub(super) fn names_the_channel(&self) -> Outcome<&Self> {
        self.expect(self.message["channel"] == self.request["channel"], "a reply on the request's channel")
    }

    /// A field has exactly this value.
    pub(super) fn has(&self, field: &str, value: impl Into<Value>) -> Outcome<&Self> {
        let value = value.into();
        self.expect(self.message[field] == value, &format!("{field:?} to be {value}"))
    }

    /// A field is not there.
    pub(super) fn lacks(&self, field: &str) -> Outcome<&Self> {
        self.expect(self.message.get(field).is_none(), &format!("no {field:?}"))
    }

    /// The server advises this.
    pub(super) fn advises(&self, field: &str, value: impl Into<Value>) -> Outcome<&Self> {
        let value = value.into();
        self.expect(self.message["advice"][field] == value, &format!("advice with {field:?} {value}"))
    }

    /// A field's text.
    pub(super) fn text(&self, field: &str) -> Outcome<&str> {
        self.message[field].as_str().ok_or_else(|| self.wanting(&format!("a string {field:?}")))
    }

    /// Something else holds; `what` completes the sentence "expected …".
    pub(super) fn expect(&self, holds: bool, what: &str) -> Outcome<&Self> {
        if holds { Ok(self) } else { Err(self.wanting(what)) }
    }

    fn wanting(&self, what: &str) -> Stop {
        Stop::failed(format!("expected {what}, got {} to {}", brief(&self.message), brief(&self.request)))
    }
}

/// All that came back for one envelope.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    /// One response, or the text frames that came until the last request was answered.
    pub(super) texts: Vec<String>,
    pub(super) messages: Vec<Value>,
}

impl Answer {
    /// Adds an envelope that came.
    pub(super) fn add(&mut self, text: String) -> Outcome {
        let messages = envelope(&text)?;
        self.texts.push(text);
        self.messages.extend(messages);
        Ok(())
    }

    pub(super) fn reply_to(&self, request: &Value) -> Outcome<Reply> {
        match self.messages.iter().find(|message| answers(request, message)) {
            Some(message) => Ok(Reply { request: request.clone(), message: message.clone() }),
            None => Err(Stop::failed(format!("no reply to {}, only {}", brief(request), self.shown()))),
        }
    }

    /// The replies to an envelope's messages, each of which must have one.
    pub(super) fn replies_to(&self, envelope: &Value) -> Outcome<Vec<Reply>> {
        envelope.as_array().into_iter().flatten().map(|request| self.reply_to(request)).collect()
    }

    /// Where in the answer the first message is for which `is` holds.
    pub(super) fn position(&self, is: impl FnMut(&Value) -> bool) -> Option<usize> {
        self.messages.iter().position(is)
    }

    pub(super) fn shown(&self) -> String {
        brief(&Value::Array(self.messages.clone()))
    }
}

/// Reads what the server sent: always an array of objects (rule M-1).
pub(super) fn envelope(text: &str) -> Outcome<Vec<Value>> {
    let not_an_envelope =
        |why: &str| Stop::failed(format!("expected an array of messages, got {why}: {}", brief(&text)));
    let messages: Value = serde_json::from_str(text).map_err(|error| not_an_envelope(&format!("no JSON ({error})")))?;
    let Value::Array(messages) = messages else { return Err(not_an_envelope("something else")) };
    ensure!(messages.iter().all(Value::is_object), "expected messages to be objects: {}", brief(&text));
    Ok(messages)
}
