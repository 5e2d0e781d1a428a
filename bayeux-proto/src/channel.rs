//! Channel names: validation, normalisation, kinds and wildcards (section C).

use bytestring::ByteString;

/// Limits of channel names (rule Z-9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelLimits {
    /// Bytes of a name. Default: 2,048; never below 1,024 (rule Z-20).
    pub length_max: usize,
    /// Segments of a name. Default: 64; never below 32 (rule Z-20).
    pub segments_max: usize,
    /// Whether the characters are checked (rule C-2; option `validateMessageFields`). Default: true. The structure
    /// (rule C-4) and the limits always are. Without it every character may be in a name, control characters too, as
    /// in CometD: whoever writes names elsewhere than into JSON has to escape them.
    pub validate_characters: bool,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self { length_max: 2_048, segments_max: 64, validate_characters: true }
    }
}

/// Why a text is no channel name (rules C-2, C-4, Z-2, Z-9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// It does not begin with `/`, or has nothing else.
    #[error("a channel name begins with a slash and has at least one segment")]
    NoPath,
    /// A character that no name may contain.
    #[error("character not allowed in a channel name at byte {offset}")]
    Character {
        /// Offset in the text as given.
        offset: usize,
    },
    /// An empty or blank segment.
    #[error("empty segment in a channel name")]
    EmptySegment,
    /// `*` or `**` before the last segment, or together with `{variables}`.
    #[error("wildcard in a place where none may be")]
    MisplacedWildcard,
    /// A wildcard where an exact name is needed.
    #[error("a wildcard is not a channel to publish to")]
    Wild,
    /// Longer than [`ChannelLimits::length_max`].
    #[error("channel name longer than {limit} bytes")]
    TooLong {
        /// The limit in force.
        limit: usize,
    },
    /// More segments than [`ChannelLimits::segments_max`].
    #[error("channel name with more than {limit} segments")]
    TooManySegments {
        /// The limit in force.
        limit: usize,
    },
}

/// What a channel is for (rule C-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// Begins with `/meta/`.
    Meta,
    /// Begins with `/service/`.
    Service,
    /// Everything else.
    Broadcast,
}

/// What the last segment of a pattern stands for (rule C-7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wildcard {
    /// `*`: exactly one more segment.
    Shallow,
    /// `**`: one or more further segments.
    Deep,
}

/// A normalised, structurally valid channel: an exact name, or one whose last segment is a wildcard (rules C-3, C-4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelPattern(ByteString);

/// A [`ChannelPattern`] without wildcard: something to publish to (rule Z-4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(ChannelPattern);

impl ChannelPattern {
    /// Checks and normalises `text`; the result is a slice of it, not a copy.
    ///
    /// # Errors
    /// [`ChannelError`] for what breaks rules C-2, C-4 or a limit. Characters are checked in `text` as given: white
    /// space before the slash is then refused, and of that behind the name only spaces are taken.
    pub fn parse(text: &ByteString, limits: &ChannelLimits) -> Result<Self, ChannelError> {
        let name = normalise(text);
        if name.len() > limits.length_max {
            return Err(ChannelError::TooLong { limit: limits.length_max });
        }
        if limits.validate_characters {
            if !text.starts_with('/') {
                return Err(ChannelError::NoPath);
            }
            if let Some(offset) = text.bytes().position(|byte| !ALLOWED[usize::from(byte)]) {
                return Err(ChannelError::Character { offset });
            }
        }
        check_structure(name, limits.segments_max)?;
        Ok(Self(text.slice_ref(name)))
    }

    /// The normalised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The normalised text, shared.
    pub fn text(&self) -> &ByteString {
        &self.0
    }

    /// What the channel is for.
    pub fn kind(&self) -> ChannelKind {
        if self.0.starts_with("/meta/") {
            ChannelKind::Meta
        } else if self.0.starts_with("/service/") {
            ChannelKind::Service
        } else {
            ChannelKind::Broadcast
        }
    }

    /// The wildcard, if it is one.
    pub fn wildcard(&self) -> Option<Wildcard> {
        if self.0.ends_with("/**") {
            Some(Wildcard::Deep)
        } else if self.0.ends_with("/*") {
            Some(Wildcard::Shallow)
        } else {
            None
        }
    }

    /// Whether messages on `channel` match (rules C-7, C-9): a pattern matches a wildcard only if equal.
    pub fn matches(&self, channel: &Self) -> bool {
        let beyond = |wildcard: &str| {
            let parent = self.0.strip_suffix(wildcard)?;
            channel.0.strip_prefix(parent).filter(|rest| !rest.is_empty() && channel.wildcard().is_none())
        };
        match self.wildcard() {
            Some(Wildcard::Deep) => self == channel || beyond("**").is_some(),
            Some(Wildcard::Shallow) => self == channel || beyond("*").is_some_and(|rest| !rest.contains('/')),
            None => self == channel,
        }
    }

    /// The channel itself and its wild ids, from the widest wildcard to the channel itself (rules C-8, Q-1).
    ///
    /// `/a/b` yields `/**`, `/a/**`, `/a/*`, `/a/b`. Below a `{variable}` there are no wild ids (rule C-10).
    pub fn ids(&self) -> Ids<'_> {
        Ids { channel: &self.0, buffer: String::new(), prefix: 0, prefix_next: 1, step: Step::Deep }
    }

    /// A copy that does not keep the buffer it was cut from alive.
    pub fn detach(&self) -> Self {
        Self(ByteString::from(&*self.0))
    }
}

impl ChannelName {
    /// As [`ChannelPattern::parse`], wildcards refused.
    ///
    /// # Errors
    /// [`ChannelError`]; [`ChannelError::Wild`] for a wildcard.
    pub fn parse(text: &ByteString, limits: &ChannelLimits) -> Result<Self, ChannelError> {
        let pattern = ChannelPattern::parse(text, limits)?;
        if pattern.wildcard().is_some() { Err(ChannelError::Wild) } else { Ok(Self(pattern)) }
    }

    /// It as a pattern that matches only itself.
    pub fn as_pattern(&self) -> &ChannelPattern {
        &self.0
    }

    /// The normalised text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The normalised text, shared.
    pub fn text(&self) -> &ByteString {
        self.0.text()
    }

    /// What the channel is for.
    pub fn kind(&self) -> ChannelKind {
        self.0.kind()
    }

    /// A copy that does not keep the buffer it was cut from alive.
    pub fn detach(&self) -> Self {
        Self(self.0.detach())
    }
}

/// The walk of [`ChannelPattern::ids`]: a lending iterator over one buffer, so that a walk allocates at most once.
#[derive(Debug)]
pub struct Ids<'a> {
    channel: &'a str,
    /// `channel[..prefix]`, then the stars of the last wild id.
    buffer: String,
    /// Bytes of the channel that the last wild id has in common with it.
    prefix: usize,
    /// The same of the next deep one: it ends with a slash.
    prefix_next: usize,
    step: Step,
}

/// What the next id is.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The deep wildcard one segment further down.
    Deep,
    /// The shallow wildcard beside the channel.
    Shallow,
    Itself,
    Done,
}

impl Ids<'_> {
    /// The next id, or `None` after the channel itself.
    #[allow(clippy::should_implement_trait, reason = "the item borrows the walk")]
    pub fn next(&mut self) -> Option<&str> {
        match self.step {
            Step::Deep => {
                if self.buffer.is_empty() {
                    // The longest wild id has two stars where the channel has at least one character.
                    self.buffer.reserve_exact(self.channel.len() + 1);
                }
                self.buffer.truncate(self.prefix);
                self.buffer.push_str(&self.channel[self.prefix..self.prefix_next]);
                self.buffer.push_str("**");
                self.prefix = self.prefix_next;
                self.step = self.below();
                Some(&self.buffer)
            }
            Step::Shallow => {
                self.step = Step::Itself;
                self.buffer.truncate(self.prefix);
                self.buffer.push('*');
                Some(&self.buffer)
            }
            Step::Itself => {
                self.step = Step::Done;
                Some(self.channel)
            }
            Step::Done => None,
        }
    }

    /// What follows the deep wildcard that has just been made.
    fn below(&mut self) -> Step {
        let rest = &self.channel.as_bytes()[self.prefix..];
        match rest.iter().position(|&byte| byte == b'/') {
            Some(slash) if is_variable(&rest[..slash]) => Step::Itself,
            Some(slash) => {
                self.prefix_next = self.prefix + slash + 1;
                Step::Deep
            }
            None if rest == b"**" => Step::Done,
            None if rest == b"*" => Step::Itself,
            None => Step::Shallow,
        }
    }
}

/// Trims as Java does, then takes one trailing slash away (rule C-3).
fn normalise(text: &str) -> &str {
    let trimmed = text.trim_matches(is_blank);
    trimmed.strip_suffix('/').unwrap_or(trimmed)
}

/// What `String.trim` of Java takes for white space.
fn is_blank(character: char) -> bool {
    character <= ' '
}

/// Checks rule C-4 and the number of segments.
fn check_structure(name: &str, segments_max: usize) -> Result<(), ChannelError> {
    let path = name.strip_prefix('/').ok_or(ChannelError::NoPath)?;
    let mut has_wildcard = false;
    let mut has_variable = false;
    for (index, segment) in path.as_bytes().split(|&byte| byte == b'/').enumerate() {
        if index >= segments_max {
            return Err(ChannelError::TooManySegments { limit: segments_max });
        }
        if has_wildcard {
            return Err(ChannelError::MisplacedWildcard);
        }
        if segment.iter().all(|&byte| is_blank(char::from(byte))) {
            return Err(ChannelError::EmptySegment);
        }
        has_wildcard = matches!(segment, b"*" | b"**");
        has_variable |= is_variable(segment);
    }
    if has_wildcard && has_variable { Err(ChannelError::MisplacedWildcard) } else { Ok(()) }
}

/// Whether a segment is `{name}`, the name being of word characters (rule C-10).
fn is_variable(segment: &[u8]) -> bool {
    match segment {
        [b'{', name @ .., b'}'] => {
            !name.is_empty() && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
        }
        _ => false,
    }
}

/// The characters of rule C-2.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let characters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 !#$()*+-./@_{~}";
    let mut index = 0;
    while index < characters.len() {
        allowed[characters[index] as usize] = true;
        index += 1;
    }
    allowed
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_normalised_name_is_a_slice_of_the_text() {
        let text = ByteString::from("/foo/bar/ ");
        let name = ChannelName::parse(&text, &ChannelLimits::default()).expect("a name");
        assert_eq!(name.as_str(), "/foo/bar", "C-3");
        assert_eq!(name.text().as_ptr(), text.as_ptr());
        assert_ne!(name.as_pattern().detach().text().as_ptr(), text.as_ptr());
        assert_eq!(name.as_pattern().detach(), *name.as_pattern());
    }

    #[test]
    fn a_wildcard_is_nothing_to_publish_to() {
        for text in ["/a/*", "/a/**", "/**"] {
            assert_eq!(ChannelName::parse(&text.into(), &ChannelLimits::default()), Err(ChannelError::Wild), "Z-4");
        }
    }

    #[test]
    fn without_the_check_of_characters_structure_and_limits_still_count() {
        let limits = ChannelLimits { validate_characters: false, ..ChannelLimits::default() };
        let parse =
            |text: &str| ChannelPattern::parse(&text.into(), &limits).map(|channel| channel.as_str().to_owned());
        assert_eq!(parse("/topic/é?query=%20:x").as_deref(), Ok("/topic/é?query=%20:x"), "DI-S4");
        assert_eq!(parse("\t /foo/\u{0}\n").as_deref(), Ok("/foo"), "C-3: Java trims all up to the space");
        assert_eq!(parse("\u{a0}/foo"), Err(ChannelError::NoPath), "C-3: and nothing else");
        assert_eq!(parse("/a/\t/b"), Err(ChannelError::EmptySegment), "C-4");
        assert_eq!(parse("/a/*/b"), Err(ChannelError::MisplacedWildcard), "C-4");
        assert_eq!(parse(&format!("/{}", "é".repeat(1_024))), Err(ChannelError::TooLong { limit: 2_048 }), "Z-9");
        assert_eq!(parse(&"/a".repeat(65)), Err(ChannelError::TooManySegments { limit: 64 }), "Z-9");
    }

    #[test]
    fn the_default_limits_are_above_the_floors() {
        let parse = |text: String| ChannelPattern::parse(&text.into(), &ChannelLimits::default());
        assert!(parse(format!("/{}", "a".repeat(1_023))).is_ok(), "Z-20");
        assert!(parse("/a".repeat(32)).is_ok(), "Z-20");
    }

    #[test]
    fn a_channel_matches_each_of_its_wild_ids_and_no_other_wildcard() {
        let parse = |text: &str| ChannelPattern::parse(&text.into(), &ChannelLimits::default()).expect("a channel");
        let channels = ["/a", "/a/b", "/a/b/c", "/b", "/ab/c"].map(parse);
        let patterns = ["/*", "/**", "/a/*", "/a/**", "/a/b/*", "/a/b/**", "/ab/**", "/b/*"].map(parse);
        for channel in &channels {
            for pattern in &patterns {
                let mut ids = channel.ids();
                let mut is_id = false;
                while let Some(id) = ids.next() {
                    is_id |= id == pattern.as_str();
                }
                assert_eq!(pattern.matches(channel), is_id, "C-7, C-8: {pattern:?} {channel:?}");
            }
        }
    }

    #[test]
    fn a_walk_fits_the_buffer_it_began_with() {
        let parse = |text: &str| ChannelPattern::parse(&text.into(), &ChannelLimits::default()).expect("a channel");
        for channel in ["/a", "/a/b", "/a/*", "/aa/b/c", "/a/b/**"].map(parse) {
            let mut ids = channel.ids();
            let _ = ids.next();
            let buffer = (ids.buffer.as_ptr(), ids.buffer.capacity());
            while ids.next().is_some() {}
            assert_eq!((ids.buffer.as_ptr(), ids.buffer.capacity()), buffer);
        }
    }
}
