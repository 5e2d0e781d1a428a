//! WebSocket frames (RFC 6455).

/// A frame or message from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// A whole text message.
    Text(&'a [u8]),
    /// Must be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// The server closes, with this code if it gave one.
    Close(Option<u16>),
}

/// The server broke the rules of framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server broke the rules of WebSocket: {0}")]
pub(crate) struct Violation(&'static str);

/// A longer message is refused, so that a broken length does not eat the memory.
const MESSAGE_MAX: usize = 256 << 20;

/// Reads frames from bytes that arrive in any pieces.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The beginning of a frame whose end has not arrived.
    partial: Vec<u8>,
    /// The fragments so far of a message in several frames.
    fragments: Option<Vec<u8>>,
}

impl Reader {
    /// Takes bytes in, and hands what they complete to `on`.
    ///
    /// # Errors
    /// [`Violation`]: the connection is of no further use.
    pub(crate) fn feed(&mut self, bytes: &[u8], on: &mut impl FnMut(Incoming<'_>)) -> Result<(), Violation> {
        if self.partial.is_empty() {
            let used = self.frames(bytes, on)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.partial.extend_from_slice(bytes);
        let mut partial = std::mem::take(&mut self.partial);
        let used = self.frames(&partial, on)?;
        if used < partial.len() {
            partial.drain(..used);
            self.partial = partial;
        }
        Ok(())
    }

    /// Reads whole frames; yields how many bytes they were.
    fn frames(&mut self, bytes: &[u8], on: &mut impl FnMut(Incoming<'_>)) -> Result<usize, Violation> {
        let mut used = 0;
        while let Some(frame) = Frame::read(&bytes[used..])? {
            self.take(frame, on)?;
            used += frame.length;
        }
        Ok(used)
    }

    fn take(&mut self, frame: Frame<'_>, on: &mut impl FnMut(Incoming<'_>)) -> Result<(), Violation> {
        match (frame.opcode, &mut self.fragments) {
            (TEXT, None) if frame.last => on(Incoming::Text(frame.payload)),
            (TEXT, None) => self.fragments = Some(frame.payload.to_vec()),
            (CONTINUATION, Some(fragments)) => {
                if fragments.len() + frame.payload.len() > MESSAGE_MAX {
                    return Err(Violation("message too long"));
                }
                fragments.extend_from_slice(frame.payload);
                if frame.last
                    && let Some(message) = self.fragments.take()
                {
                    on(Incoming::Text(&message));
                }
            }
            (CLOSE, _) => {
                on(Incoming::Close(frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code))));
            }
            (PING, _) => on(Incoming::Ping(frame.payload)),
            (PONG, _) => {}
            _ => return Err(Violation("unexpected opcode")),
        }
        Ok(())
    }
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    opcode: u8,
    last: bool,
    payload: &'a [u8],
    /// With its header.
    length: usize,
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begin with, if all of it is there.
    fn read(bytes: &'a [u8]) -> Result<Option<Self>, Violation> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation("reserved bits"));
        }
        if second & 0x80 != 0 {
            return Err(Violation("masked frame"));
        }
        let (length, header) = match second {
            126 => match rest.first_chunk() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (u64::from_be_bytes(*length), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= MESSAGE_MAX);
        let length = header + length.ok_or(Violation("message too long"))?;
        let frame = bytes.get(header..length);
        Ok(frame.map(|payload| Self { opcode: first & 15, last: first & 0x80 != 0, payload, length }))
    }
}

/// Kinds of frames that the generator sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole text message.
    Text = TEXT as isize,
    /// The end.
    Close = CLOSE as isize,
    /// The answer to a ping.
    Pong = PONG as isize,
}

/// Appends a frame with `payload`, masked with `mask`.
pub(crate) fn write(kind: Kind, payload: &[u8], mask: u32, out: &mut Vec<u8>) {
    out.push(0x80 | kind as u8);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    let mask = mask.to_be_bytes();
    out.extend(mask);
    let start = out.len();
    out.extend_from_slice(payload);
    // In words first: the compiler makes vector instructions of it.
    let (words, rest) = out[start..].as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        write(Kind::Text, payload, 0, &mut masked);
        // As a server sends it: without mask.
        let header = masked.len() - payload.len() - 4;
        let mut frame = masked[..header].to_vec();
        frame[0] = first;
        frame[1] &= 0x7f;
        frame.extend(payload);
        frame
    }

    fn read_in_pieces_of(size: usize, bytes: &[u8]) -> Result<Vec<String>, Violation> {
        let mut reader = Reader::default();
        let mut seen = Vec::new();
        for piece in bytes.chunks(size) {
            reader.feed(piece, &mut |incoming| {
                seen.push(match incoming {
                    Incoming::Text(text) => format!("text {} {}", text.len(), String::from_utf8_lossy(&text[..1])),
                    Incoming::Ping(payload) => format!("ping {}", payload.len()),
                    Incoming::Close(code) => format!("close {code:?}"),
                });
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn frames_of_all_lengths_are_read_in_all_pieces() {
        let mut bytes = Vec::new();
        for length in [1, 125, 126, 65_535, 65_536] {
            bytes.extend(frame(0x81, &vec![b'a'; length]));
        }
        bytes.extend(frame(0x89, b"ping"));
        bytes.extend(frame(0x01, b"b1"));
        bytes.extend(frame(0x8a, b"pong"));
        bytes.extend(frame(0x00, b"23"));
        bytes.extend(frame(0x80, b"4"));
        bytes.extend(frame(0x88, &1001_u16.to_be_bytes()));
        let expected = [
            "text 1 a",
            "text 125 a",
            "text 126 a",
            "text 65535 a",
            "text 65536 a",
            "ping 4",
            "text 5 b",
            "close Some(1001)",
        ];
        for size in [1, 2, 3, 7, 1000, 70_000, bytes.len()] {
            assert_eq!(read_in_pieces_of(size, &bytes).expect("no violation"), expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_breaks_the_rules_is_a_violation() {
        let mut masked = Vec::new();
        write(Kind::Text, b"a", 7, &mut masked);
        let endless = [0x81, 127, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        for bytes in [masked.as_slice(), &endless, &frame(0xc1, b"a"), &frame(0x80, b"a"), &frame(0x83, b"a")] {
            assert!(read_in_pieces_of(100, bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_written_is_masked_byte_by_byte() {
        let payload = b"{\"channel\":\"/a\"}x";
        let mut out = Vec::new();
        write(Kind::Text, payload, 0x0102_0304, &mut out);
        assert_eq!(out[..6], [0x81, 0x80 | 17, 1, 2, 3, 4]);
        let unmasked: Vec<u8> =
            out[6..].iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert_eq!(unmasked, payload);
    }
}
