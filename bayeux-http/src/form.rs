//! Forms: `message=…&message=…`, percent-encoded (rule TH-6).

use bytes::{Bytes, BytesMut};

/// The decoded values of the fields called `name`, in order. Bytes, not text: their charset is not known here.
pub(crate) fn values<'a>(form: &'a [u8], name: &'a str) -> impl Iterator<Item = Bytes> + 'a {
    form.split(|&b| b == b'&').filter_map(move |field| {
        let (key, value) = match field.iter().position(|&b| b == b'=') {
            Some(at) => (&field[..at], &field[at + 1..]),
            None => (field, &b""[..]),
        };
        (unescape(key) == name.as_bytes()).then(|| unescape(value))
    })
}

/// Decodes `+` and `%xx`; a `%` that begins no escape stays.
fn unescape(text: &[u8]) -> Bytes {
    let mut plain = BytesMut::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let byte = match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = &after[2..];
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => first,
        };
        plain.extend_from_slice(&[byte]);
    }
    plain.freeze()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_repeated_field_come_in_order() {
        let form = b"a=1&message=%5B%7B%7D%5D&b&message=x+y&mess%61ge=";
        let values: Vec<_> = values(form, "message").collect();
        assert_eq!(values, [&b"[{}]"[..], b"x y", b""]);
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(unescape(b"%"), &b"%"[..]);
        assert_eq!(unescape(b"%4"), &b"%4"[..]);
        assert_eq!(unescape(b"%zz%41%"), &b"%zzA%"[..]);
        assert_eq!(unescape(b"%ff"), &b"\xff"[..]);
    }
}
