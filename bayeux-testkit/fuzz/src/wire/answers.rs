//! What every answer must be, whatever it travels on.

use serde_json::value::RawValue;

/// An envelope of the server: a JSON array of objects.
pub(super) fn is_envelope(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("not UTF-8: {}", bytes.escape_ascii()));
    let messages: Vec<&RawValue> =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: not an array of messages: {text}"));
    assert!(!messages.is_empty(), "TH-8, TW-8: an envelope without messages");
    for message in messages {
        assert!(message.get().starts_with('{'), "not a message: {message}");
    }
}

/// The ids of sessions in `text` that begin at `from` or later.
pub(super) fn client_ids(text: &[u8], from: usize) -> Vec<String> {
    const BEFORE: &[u8] = b"\"clientId\":\"";
    let mut ids = Vec::new();
    let mut rest = text.get(from..).unwrap_or_default();
    while let Some(at) = rest.windows(BEFORE.len()).position(|window| window == BEFORE) {
        rest = &rest[at + BEFORE.len()..];
        let Some(end) = rest.iter().position(|&byte| byte == b'"') else { break };
        ids.push(String::from_utf8_lossy(&rest[..end]).into_owned());
    }
    ids
}

/// The value of the browser cookie that was set last.
pub(super) fn browser(text: &[u8]) -> Option<String> {
    const BEFORE: &[u8] = b"BAYEUX_BROWSER=";
    let at = text.windows(BEFORE.len()).rposition(|window| window == BEFORE)?;
    let value = &text[at + BEFORE.len()..];
    let end = value.iter().position(|byte| b";\r\n".contains(byte))?;
    Some(String::from_utf8_lossy(&value[..end]).into_owned())
}
