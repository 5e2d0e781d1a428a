//! The mark that every message of a run carries: who published it, where, which one it is, and when it was due.
//!
//! It is one JSON string of letters, digits and hyphens, so that it survives every server's JSON, and is found in the
//! middle of anything by its first bytes, which are unique to the run.

use memchr::memmem::Finder;
use serde_json::Value;

use super::clock::Moment;

/// What a message says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The room that it was published in.
    pub(crate) room: u32,
    /// Its number in that room, from 0.
    pub(crate) number: u32,
    /// The publisher's index.
    pub(crate) publisher: u32,
    /// The slot of the publisher's window that waits for it.
    pub(crate) slot: u32,
    /// When it was due to be sent; in a closed loop, when it was sent.
    pub(crate) due: Moment,
}

/// Hexadecimal digits of a stamp: four numbers of 8 and a time of 16.
const DIGITS: usize = 48;

/// Writes and finds the stamps of one run.
#[derive(Debug, Clone)]
pub(crate) struct Stamps {
    mark: String,
    finder: Finder<'static>,
}

impl Stamps {
    /// The stamps of the run `run`.
    pub(crate) fn new(run: u32) -> Self {
        let mark = format!("bayeux-load-{run:08x}-");
        Self { finder: Finder::new(&mark).into_owned(), mark }
    }

    /// What begins each stamp.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// Appends the part of `stamp` that follows the mark.
    pub(crate) fn write_digits(stamp: &Stamp, out: &mut Vec<u8>) {
        for number in [stamp.room, stamp.number, stamp.publisher, stamp.slot] {
            out.extend(hex(number));
        }
        out.extend(hex((stamp.due.0 >> 32) as u32));
        out.extend(hex(stamp.due.0 as u32));
    }

    /// The stamp in `data`, the JSON text of a message's data.
    pub(crate) fn find(&self, data: &[u8]) -> Option<Stamp> {
        match self.finder.find(data) {
            Some(at) => Some(read(data.get(at + self.mark.len()..)?.first_chunk()?)),
            // A server may write any character as an escape.
            None if data.contains(&b'\\') => self.find_in(&serde_json::from_slice(data).ok()?),
            None => None,
        }
    }

    fn find_in(&self, value: &Value) -> Option<Stamp> {
        match value {
            Value::String(text) => {
                let digits = text.as_bytes().strip_prefix(self.mark.as_bytes())?;
                Some(read(digits.first_chunk()?))
            }
            Value::Array(items) => items.iter().find_map(|item| self.find_in(item)),
            Value::Object(members) => members.values().find_map(|member| self.find_in(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }
}

fn read(digits: &[u8; DIGITS]) -> Stamp {
    let mut numbers = [0; DIGITS / 8];
    for (number, digits) in numbers.iter_mut().zip(digits.as_chunks::<8>().0) {
        *number = unhex(*digits);
    }
    let [room, number, publisher, slot, high, low] = numbers;
    Stamp { room, number, publisher, slot, due: Moment(u64::from(high) << 32 | u64::from(low)) }
}

/// Eight digits in lower case.
fn hex(number: u32) -> [u8; 8] {
    std::array::from_fn(|index| b"0123456789abcdef"[(number >> (28 - 4 * index)) as usize & 15])
}

/// The number that eight digits in lower case spell, all at once. What is no digit counts as some digit: a stamp that was
/// changed on the way is that of a message which nobody published, and is noticed as such.
fn unhex(digits: [u8; 8]) -> u32 {
    let digits = u64::from_be_bytes(digits);
    // A letter has the bit of 64, and its low half counts from 1.
    let letters = digits >> 6 & 0x0101_0101_0101_0101;
    let nibbles = (digits & 0x0f0f_0f0f_0f0f_0f0f) + letters * 9;
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let halves = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (halves | halves >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { room: 3, number: 0xdead_beef, publisher: 77, slot: 9, due: Moment(0x0123_4567_89ab) };

    fn written(stamps: &Stamps) -> String {
        let mut digits = Vec::new();
        Stamps::write_digits(&STAMP, &mut digits);
        assert_eq!(digits.len(), DIGITS);
        format!("{}{}", stamps.mark(), String::from_utf8(digits).expect("digits"))
    }

    #[test]
    fn a_stamp_is_found_wherever_and_however_it_is_spelled() {
        let stamps = Stamps::new(0xabcd);
        let text = written(&stamps);
        let escaped: String = text.chars().map(|character| format!("\\u{:04X}", character as u32)).collect();
        for data in [
            format!("\"{text}\""),
            format!("{{\"chat\":\"x\",\"stamp\":\"{text}\",\"room\":1}}"),
            format!("{{\"chat\":\"\\n\",\"stamp\":[\"{escaped}\"]}}"),
        ] {
            assert_eq!(stamps.find(data.as_bytes()), Some(STAMP), "{data}");
        }
    }

    #[test]
    fn any_number_reads_as_it_was_written() {
        for number in [0, 1, 9, 10, 0xf, 0x1234_5678, 0x9abc_def0, u32::MAX] {
            assert_eq!(unhex(hex(number)), number);
        }
    }

    #[test]
    fn a_stamp_of_another_run_or_cut_short_is_none() {
        let stamps = Stamps::new(0xabcd);
        let text = written(&stamps);
        for data in [written(&Stamps::new(0xabce)), text[..60].to_owned(), String::new()] {
            assert_eq!(stamps.find(data.as_bytes()), None, "{data}");
        }
    }
}
