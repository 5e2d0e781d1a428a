//! Channel names, patterns and templates, against rules written down a second time without a thought for speed.

use bayeux_proto::{ByteString, ChannelKind, ChannelLimits, ChannelName, ChannelPattern, ChannelTemplate, Wildcard};

use crate::choices::Choices;

/// A pattern and a channel: a byte of options, then the two texts, with a line feed between them.
///
/// What is taken, and as what, agrees with naive rules; so does what matches what. Normalising twice is normalising once.
/// The walk through wild ids names exactly the patterns that match.
pub fn channel_names(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut limits = ChannelLimits::default();
    limits.validate_characters = !choices.rarely(64);
    // Small enough that fuzzing reaches them.
    limits.length_max = 80;
    limits.segments_max = 12;
    let text = String::from_utf8_lossy(choices.rest());
    let (pattern, channel) = text.split_once('\n').unwrap_or((&text, ""));
    let pattern = parse(pattern, &limits);
    let channel = parse(channel, &limits);
    if let (Some(pattern), Some(channel)) = (pattern, channel) {
        assert_eq!(
            pattern.matches(&channel),
            matches(pattern.as_str(), channel.as_str()),
            "C-7: {pattern:?} {channel:?}"
        );
        if !has_variable(channel.as_str()) && channel.wildcard().is_none() {
            let named = ids(&channel).iter().any(|id| id == pattern.as_str());
            assert_eq!(named, pattern.matches(&channel), "C-8: {pattern:?} {channel:?}");
        }
        if let Ok(Some(template)) = ChannelTemplate::parse(pattern.as_str(), &limits) {
            binds(&template, &channel);
        }
    }
}

/// Parses a text both ways and checks what came of it by itself.
fn parse(text: &str, limits: &ChannelLimits) -> Option<ChannelPattern> {
    let shared = ByteString::from(text);
    let ours = ChannelPattern::parse(&shared, limits);
    let expected = normalise(text, limits);
    assert_eq!(ours.as_ref().ok().map(ChannelPattern::as_str), expected, "C-2, C-3, C-4: {text:?} {ours:?}");
    let pattern = ours.ok()?;
    let is_wild = pattern.wildcard().is_some();
    assert_eq!(ChannelName::parse(&shared, limits).is_ok(), !is_wild, "Z-4");
    let last = pattern.as_str().rsplit('/').next();
    assert_eq!(pattern.wildcard() == Some(Wildcard::Deep), last == Some("**"));
    assert_eq!(pattern.wildcard() == Some(Wildcard::Shallow), last == Some("*"));
    let kind = match pattern.as_str().split('/').nth(1) {
        Some("meta") if pattern.as_str().len() > 5 => ChannelKind::Meta,
        Some("service") if pattern.as_str().len() > 8 => ChannelKind::Service,
        _ => ChannelKind::Broadcast,
    };
    assert_eq!(pattern.kind(), kind, "C-6");
    // Blanks before the slash are no characters of a name, but C-3 takes them away first.
    if !has_inner_blank_end(pattern.as_str()) {
        assert_eq!(ChannelPattern::parse(pattern.text(), limits).as_ref(), Ok(&pattern), "C-3: normalising again");
    }
    walks(&pattern);
    Some(pattern)
}

/// Whether the name ends so that normalising again would take something more away: `/a //` becomes `/a /`.
fn has_inner_blank_end(name: &str) -> bool {
    name.ends_with('/') || name.ends_with(is_blank)
}

fn is_blank(character: char) -> bool {
    character <= ' '
}

/// The rules of section C, one after the other.
fn normalise<'a>(text: &'a str, limits: &ChannelLimits) -> Option<&'a str> {
    let trimmed = text.trim_matches(is_blank);
    let name = trimmed.strip_suffix('/').unwrap_or(trimmed);
    let segments: Vec<&str> = name.split('/').collect();
    let (first, path) = segments.split_first()?;
    let is_wild = |segment: &str| segment == "*" || segment == "**";
    let allowed = |c: char| c.is_ascii_alphanumeric() || " !#$()*+-./@_{~}".contains(c);
    let is_right = first.is_empty()
        && !path.is_empty()
        && path.iter().all(|segment| !segment.chars().all(is_blank))
        && !path[..path.len() - 1].iter().any(|segment| is_wild(segment))
        && !(is_wild(path[path.len() - 1]) && has_variable(name))
        && name.len() <= limits.length_max
        && path.len() <= limits.segments_max
        && (!limits.validate_characters || text.starts_with('/') && text.chars().all(allowed));
    is_right.then_some(name)
}

fn has_variable(name: &str) -> bool {
    name.split('/').any(|segment| {
        let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        inner.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    })
}

/// Rules C-7 and C-9, segment by segment.
fn matches(pattern: &str, channel: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let channel: Vec<&str> = channel.split('/').collect();
    if pattern == channel {
        return true;
    }
    if matches!(channel.last(), Some(&("*" | "**"))) {
        return false;
    }
    match pattern.split_last() {
        Some((&"*", parent)) => channel.len() == pattern.len() && channel.starts_with(parent),
        Some((&"**", parent)) => channel.len() >= pattern.len() && channel.starts_with(parent),
        _ => false,
    }
}

fn ids(pattern: &ChannelPattern) -> Vec<String> {
    let mut walk = pattern.ids();
    let mut ids = Vec::new();
    while let Some(id) = walk.next() {
        ids.push(id.to_owned());
    }
    ids
}

/// The walk goes from the widest to the channel itself, and names nothing twice.
fn walks(pattern: &ChannelPattern) {
    let ids = ids(pattern);
    assert_eq!(ids.first().map(String::as_str), Some("/**"), "Q-1: the widest first");
    assert_eq!(ids.last().map(String::as_str), Some(pattern.as_str()), "Q-1: the channel itself last");
    let wild = &ids[..ids.len() - 1];
    // No limits: a wild id may be a byte longer than the channel.
    let mut limits = ChannelLimits::default();
    limits.validate_characters = false;
    for id in wild {
        let wild = ChannelPattern::parse(&ByteString::from(id.as_str()), &limits).expect("C-8: a wild id is a pattern");
        assert!(wild.wildcard().is_some(), "C-8: {id}");
        if pattern.wildcard().is_none() {
            assert!(wild.matches(pattern), "C-8: {id} in the walk of {pattern:?}");
        }
    }
    assert!(wild.windows(2).all(|two| two[0] != two[1]), "C-8: {ids:?}");
}

/// What a template binds on a channel, put back into the template, is the channel.
fn binds(template: &ChannelTemplate, channel: &ChannelPattern) {
    let segments = |text: &str| text.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (own, other) = (segments(template.as_str()), segments(channel.as_str()));
    let is_variable = |segment: &str| segment.starts_with('{') && segment.ends_with('}');
    let fits = channel.wildcard().is_none()
        && own.len() == other.len()
        && own.iter().zip(&other).all(|(own, other)| is_variable(own) || own == other);
    let parameters = template.bind(channel);
    assert_eq!(parameters.is_some(), fits, "C-10: {template:?} {channel:?}");
    for (name, value) in parameters.into_iter().flatten() {
        let at =
            own.iter().position(|segment| **segment == *format!("{{{name}}}")).expect("C-10: a name of the template");
        assert_eq!(*value, *other[at], "C-10");
    }
}
