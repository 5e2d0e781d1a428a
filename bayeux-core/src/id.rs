//! Keys and ids: what names a connection, a session, a browser, a shard.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// The name of a connection: one HTTP exchange, or one WebSocket. The driver chooses it and never uses it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(pub u64);

/// One of the engines of a server, counted from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The most shards that a server can have: what two base-36 digits of a client id can tell apart.
    pub const COUNT_MAX: u16 = 36 * 36;

    /// The home of a channel among `shards`: the shard that decides whether it exists.
    pub fn home_of(channel: &str, shards: u16) -> Self {
        Self(shard_by_hash(channel, shards))
    }
}

/// Where ids come from: a cryptographic random source in a driver, a seeded one in tests.
pub trait IdSource {
    /// 128 bits that nobody can guess (rule H-11).
    fn draw(&mut self) -> u128;
}

/// A session's id on the wire, `clientId`: alphanumeric, the shard in the first two digits, 128 random bits in the
/// rest (rule H-11).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);

/// A browser's id, the value of its cookie (rules TH-11, TH-20).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrowserId(Arc<str>);

impl ClientId {
    /// A new id of shard `shard`.
    pub fn generate(shard: ShardId, ids: &mut dyn IdSource) -> Self {
        let mut text = [b'0'; 2 + BASE36_DIGITS];
        let (head, tail) = text.split_at_mut(2);
        base36(u128::from(shard.0), head);
        base36(ids.draw(), tail);
        Self(std::str::from_utf8(&text).expect("base-36 digits are ASCII").into())
    }

    /// The same behind a word that says whose it is, `<hint>_<id>` (rule A-62). Of the hint the characters count that
    /// an id may have, and at most [`ClientId::HINT_MAX`] of them.
    #[must_use]
    pub fn with_hint(&self, hint: &str) -> Self {
        let mut text: String =
            hint.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(Self::HINT_MAX).collect();
        text.push('_');
        text.push_str(&self.0);
        Self(text.into())
    }

    /// The longest hint in front of an id.
    pub const HINT_MAX: usize = 64;

    /// The shard that made the id `text`, or `None` where it is not an id of ours.
    pub fn shard_of(text: &str) -> Option<ShardId> {
        let text = text.rsplit_once('_').map_or(text, |(_, id)| id);
        if text.len() != 2 + BASE36_DIGITS || !text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
            return None;
        }
        u16::from_str_radix(text.get(..2)?, 36).ok().map(ShardId)
    }

    /// The shard that made this id.
    pub fn shard(&self) -> ShardId {
        Self::shard_of(&self.0).unwrap_or_default()
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl BrowserId {
    /// The longest browser id that is accepted from a client.
    pub const LENGTH_MAX: usize = 128;

    /// A new id that maps to `shard` among `shards`.
    pub fn generate(shard: ShardId, shards: u16, ids: &mut dyn IdSource) -> Self {
        // The map is a hash, so an id is drawn until it fits: `shards` tries on average. Should the source be so poor
        // that none fits, the last is as good: it then counts as a browser of its own shard only.
        let mut id = Self::draw(ids);
        for _ in 0..usize::from(shards) * 32 {
            if id.shard(shards) == shard {
                break;
            }
            id = Self::draw(ids);
        }
        id
    }

    fn draw(ids: &mut dyn IdSource) -> Self {
        let mut text = [b'0'; BASE36_DIGITS];
        base36(ids.draw(), &mut text);
        Self(std::str::from_utf8(&text).expect("base-36 digits are ASCII").into())
    }

    /// Accepts the value of a cookie that looks like an id of ours: alphanumeric and of bounded length (rules Z-12,
    /// TH-25).
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= Self::LENGTH_MAX;
        (fits && text.bytes().all(|b| b.is_ascii_alphanumeric())).then(|| Self(text.into()))
    }

    /// The shard, of `shards`, that keeps this browser's sessions: the limit of rule TH-30 counts per browser.
    pub fn shard(&self, shards: u16) -> ShardId {
        ShardId(shard_by_hash(&self.0, shards))
    }

    /// The text in the cookie.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ClientId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for BrowserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({})", self.0)
    }
}

impl fmt::Display for BrowserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BrowserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrowserId({})", self.0)
    }
}

/// A map whose keys nobody outside chooses: numbers that the driver counts, and ids that the engine draws. Whoever looks
/// for another finds nothing, whatever it hashes to, so that hashing need not be strong.
pub type OwnKeyMap<K, V> = HashMap<K, V, BuildHasherDefault<OwnKeyHasher>>;

/// The hasher of an [`OwnKeyMap`]: it spreads bits, and no more.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnKeyHasher(u64);

impl Hasher for OwnKeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for &word in words {
            self.write_u64(u64::from_le_bytes(word));
        }
        for &byte in rest {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        // The multiplier of Fibonacci hashing; the table uses the top bits, too.
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// A shard of `shards` for a text: the same in every process and on every machine.
fn shard_by_hash(text: &str, shards: u16) -> u16 {
    (text_hash(text) % u64::from(shards.max(1))) as u16
}

/// FNV-1a, and the finaliser of MurmurHash3, since FNV alone leaves texts that differ in their last letter in one shard.
pub(crate) fn text_hash(text: &str) -> u64 {
    let hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// Base-36 digits that hold 128 bits.
const BASE36_DIGITS: usize = 25;

fn base36(mut value: u128, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        let rest = (value % 36) as u8;
        *digit = if rest < 10 { b'0' + rest } else { b'a' + rest - 10 };
        value /= 36;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u128);

    impl IdSource for Counter {
        fn draw(&mut self) -> u128 {
            self.0 += 1;
            self.0
        }
    }

    #[test]
    fn client_id_is_alphanumeric_and_names_its_shard() {
        let mut ids = Counter(u128::MAX - 1);
        let id = ClientId::generate(ShardId(37), &mut ids);
        assert!(id.as_str().bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(ClientId::shard_of(id.as_str()), Some(ShardId(37)));
        assert_eq!(id.shard(), ShardId(37));
    }

    #[test]
    fn foreign_client_id_names_no_shard() {
        for text in ["", "0", "not-ours", "00é00000000000000000000000", "A0000000000000000000000000X"] {
            assert_eq!(ClientId::shard_of(text), None, "{text}");
        }
    }

    #[test]
    fn generated_browser_id_maps_to_the_shard_that_made_it() {
        let mut ids = Counter(0);
        for shards in [1, 2, 4, 7] {
            for shard in 0..shards {
                assert_eq!(BrowserId::generate(ShardId(shard), shards, &mut ids).shard(shards), ShardId(shard));
            }
        }
    }

    /// Z-12, TH-25: what does not look like an id of ours counts as none.
    #[test]
    fn browser_id_of_odd_shape_is_not_accepted() {
        assert!(BrowserId::parse("4f1kAbc").is_some());
        let long = "a".repeat(BrowserId::LENGTH_MAX + 1);
        for text in ["", "a b", "a;b", "é", "\"x\"", long.as_str()] {
            assert!(BrowserId::parse(text).is_none(), "{text}");
        }
    }
}
