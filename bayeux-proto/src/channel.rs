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
    /// (rule C-4) and the limits always are.
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
    /// [`ChannelError`] for what breaks rules C-2, C-4 or a limit.
    pub fn parse(text: &ByteString, limits: &ChannelLimits) -> Result<Self, ChannelError> {
        let _ = (text, limits);
        todo!()
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
        todo!()
    }

    /// The wildcard, if it is one.
    pub fn wildcard(&self) -> Option<Wildcard> {
        todo!()
    }

    /// Whether messages on `channel` match (rules C-7, C-9): a pattern matches a wildcard only if equal.
    pub fn matches(&self, channel: &Self) -> bool {
        let _ = channel;
        todo!()
    }

    /// The channel itself and its wild ids, from the widest wildcard to the channel itself (rules C-8, Q-1).
    ///
    /// `/a/b` yields `/**`, `/a/**`, `/a/*`, `/a/b`.
    pub fn ids(&self) -> Ids<'_> {
        todo!()
    }

    /// A copy that does not keep the buffer it was cut from alive.
    pub fn detach(&self) -> Self {
        Self(ByteString::from(String::from(&*self.0)))
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
}

/// The walk of [`ChannelPattern::ids`]: a lending iterator over one buffer, so that a walk allocates at most once.
#[derive(Debug)]
pub struct Ids<'a> {
    channel: &'a str,
}

impl Ids<'_> {
    /// The next id, or `None` after the channel itself.
    #[allow(clippy::should_implement_trait, reason = "the item borrows the walk")]
    pub fn next(&mut self) -> Option<&str> {
        todo!()
    }
}
