//! What reads a server's bytes, for fuzz targets. No part of the API.

use super::scan::{self, Fields, Json};
use super::wire::http;
use super::wire::ws::{self, Incoming};

/// What a WebSocket brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A text message.
    Text(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A close frame, with its code.
    Close(Option<u16>),
}

/// Reads responses of HTTP up to the end of a connection: status and content of each, and whether they kept the rules.
pub fn responses<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(u16, Vec<u8>)>, bool) {
    let mut reader = http::Reader::default();
    let mut seen = Vec::new();
    let mut on = |response: http::Response<'_>| seen.push((response.status, response.body.into_owned()));
    let read = { pieces }.try_for_each(|piece| reader.feed(piece, &mut on)).and_then(|()| reader.end(&mut on));
    (seen, read.is_ok())
}

/// Reads the frames of a WebSocket; whether they kept the rules.
pub fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Read>, bool) {
    let mut reader = ws::Reader::default();
    let mut seen = Vec::new();
    let mut on = |incoming: Incoming<'_>| {
        seen.push(match incoming {
            Incoming::Text(text) => Read::Text(text.to_vec()),
            Incoming::Ping(payload) => Read::Ping(payload.to_vec()),
            Incoming::Close(code) => Read::Close(code),
        });
    };
    let read = { pieces }.try_for_each(|piece| reader.feed(piece, &mut on));
    (seen, read.is_ok())
}

/// The members of a message that matter, by name.
pub type Members<'a> = Vec<(&'static str, &'a [u8])>;

/// The messages in a text; `None` where it is no batch.
pub fn messages(text: &[u8]) -> Option<Vec<Members<'_>>> {
    scan::messages(text).map(|message| message.ok().map(members)).collect()
}

fn members(fields: Fields<'_>) -> Members<'_> {
    let Fields { channel, id, client_id, successful, error, advice, ext, data } = fields;
    let named = [
        ("channel", channel),
        ("id", id),
        ("clientId", client_id),
        ("successful", successful),
        ("error", error),
        ("advice", advice),
        ("ext", ext),
        ("data", data),
    ];
    named.into_iter().filter_map(|(name, value)| Some((name, value?.0))).collect()
}

/// What a value says, where it is a string.
pub fn string(value: &[u8]) -> Option<Vec<u8>> {
    Json(value).string().map(|text| text.into_owned())
}
