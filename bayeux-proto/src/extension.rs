//! What `ext` says of the extensions that the engine implements: acknowledgement and time synchronisation (sections XA,
//! XT).

use crate::json::RawJson;
use crate::message::Message;
use crate::scan::{Kind, Value};
use crate::text::{self, Object, Sink};

/// What a received `ext` says to the engine's extensions. Whatever has a wrong type counts as absent (rules XA-16,
/// XT-6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtRequest {
    /// `ext.ack`
    pub ack: Option<AckRequest>,
    /// `ext.timesync`
    pub timesync: Option<TimesyncRequest>,
}

/// `ext.ack` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckRequest {
    /// `true`, in a handshake: the client acknowledges (rule XA-1).
    Enable,
    /// The last batch that the client has, in a connect (rule XA-6).
    Batch(i64),
}

/// `ext.timesync` of a request (rule XT-1). Milliseconds; fractions are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimesyncRequest {
    /// The client's clock.
    pub tc: i64,
    /// Its estimate of the lag; clients of old send none.
    pub lag: Option<i64>,
    /// Its estimate of the offset.
    pub offset: i64,
}

/// `ext.ack` of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckReply {
    /// `true`: the server acknowledges (rule XA-1).
    Enabled,
    /// The same where messages ride in the handshake's response, which is this batch (rule XA-1).
    EnabledFrom(u64),
    /// The batch that this connect reply closes (rule XA-4).
    Batch(u64),
}

/// `ext.timesync` of a reply (rule XT-3). Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimesyncReply {
    /// The client's clock, as it said.
    pub tc: i64,
    /// The server's clock when the request came.
    pub ts: u64,
    /// How long the request took to be answered, the time that it was held included.
    pub p: u64,
    /// How far off the client's estimates are; absent for clients that sent none.
    pub a: Option<i64>,
}

impl Message {
    /// Reads what `ext` says to the engine's extensions.
    pub fn extensions(&self) -> ExtRequest {
        let mut request = ExtRequest::default();
        let Some(ext) = &self.ext else { return request };
        for (key, value) in ext.value().entries() {
            match &*text::plain(key) {
                "ack" => request.ack = ack(value),
                "timesync" => request.timesync = timesync(value),
                _ => {}
            }
        }
        request
    }
}

fn ack(value: Value<'_>) -> Option<AckRequest> {
    match value.kind() {
        Kind::Bool => (value.raw == "true").then_some(AckRequest::Enable),
        Kind::Number => integer(value).map(AckRequest::Batch),
        Kind::Null | Kind::String | Kind::Array | Kind::Object => None,
    }
}

fn timesync(value: Value<'_>) -> Option<TimesyncRequest> {
    if value.kind() != Kind::Object {
        return None;
    }
    let (mut tc, mut lag, mut offset) = (None, None, None);
    for (key, value) in value.entries() {
        match &*text::plain(key) {
            "tc" => tc = Some(integer(value)?),
            "l" => lag = Some(integer(value)?),
            "o" => offset = Some(integer(value)?),
            _ => {}
        }
    }
    Some(TimesyncRequest { tc: tc?, lag, offset: offset.unwrap_or_default() })
}

/// A number without its fraction; one that is too large becomes the largest.
fn integer(value: Value<'_>) -> Option<i64> {
    if value.kind() != Kind::Number {
        return None;
    }
    value.raw.parse().ok().or_else(|| value.raw.parse::<f64>().ok().map(|number| number as i64))
}

/// Writes `ext` of a reply: what hooks put there, and what the extensions say.
pub(crate) fn write<S: Sink>(
    sink: &mut S,
    ext: Option<&RawJson>,
    ack: Option<AckReply>,
    timesync: Option<TimesyncReply>,
) {
    let mut object = Object::new(sink);
    if let Some(ext) = ext {
        for (key, value) in ext.value().entries() {
            object.raw(key.raw, value.raw);
        }
    }
    match ack {
        None => {}
        Some(AckReply::Enabled) => object.bool("\"ack\"", true),
        Some(AckReply::EnabledFrom(batch)) => {
            let mut ack = Object::new(object.key("\"ack\""));
            ack.bool("\"enabled\"", true);
            ack.number("\"batch\"", batch);
            ack.end();
        }
        Some(AckReply::Batch(batch)) => object.number("\"ack\"", batch),
    }
    if let Some(timesync) = timesync {
        let mut times = Object::new(object.key("\"timesync\""));
        times.raw("\"tc\"", &timesync.tc.to_string());
        times.number("\"ts\"", timesync.ts);
        times.number("\"p\"", timesync.p);
        if let Some(a) = timesync.a {
            times.raw("\"a\"", &a.to_string());
        }
        times.end();
    }
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ext: &'static str) -> ExtRequest {
        let mut message = Message::new("/meta/connect");
        message.ext = Some(RawJson::new(ext).expect("JSON of this test"));
        message.extensions()
    }

    #[test]
    fn acknowledgement_is_true_or_a_number() {
        assert_eq!(read(r#"{"ack":true}"#).ack, Some(AckRequest::Enable), "XA-1");
        assert_eq!(read(r#"{"ack":7}"#).ack, Some(AckRequest::Batch(7)), "XA-6");
        assert_eq!(read(r#"{"ack":-1.5e0}"#).ack, Some(AckRequest::Batch(-1)));
        assert_eq!(read(r#"{"ack":1e300}"#).ack, Some(AckRequest::Batch(i64::MAX)));
        for other in [r#"{"ack":false}"#, r#"{"ack":"1"}"#, r#"{"ack":{}}"#, r#"{"ack":null}"#, "{}"] {
            assert_eq!(read(other).ack, None, "XA-16: {other}");
        }
    }

    #[test]
    fn garbage_for_times_counts_as_none() {
        let times = TimesyncRequest { tc: 5, lag: Some(0), offset: -3 };
        assert_eq!(read(r#"{"timesync":{"tc":5,"l":0,"o":-3}}"#).timesync, Some(times), "XT-1");
        for other in
            [r#"{"timesync":5}"#, r#"{"timesync":{"tc":"5"}}"#, r#"{"timesync":{}}"#, r#"{"timesync":{"tc":1,"l":[]}}"#]
        {
            assert_eq!(read(other).timesync, None, "XT-6: {other}");
        }
    }

    #[test]
    fn extensions_stand_beside_what_hooks_put_there() {
        let mut out = bytes::BytesMut::new();
        let ext = RawJson::new(r#"{"a":1}"#).expect("JSON of this test");
        let timesync = TimesyncReply { tc: -1, ts: 2, p: 3, a: Some(-4) };
        write(&mut out, Some(&ext), Some(AckReply::Batch(9)), Some(timesync));
        assert_eq!(out, r#"{"a":1,"ack":9,"timesync":{"tc":-1,"ts":2,"p":3,"a":-4}}"#);
    }
}
