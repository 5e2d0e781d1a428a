//! Where an option's value goes, and what that place accepts.

use std::fmt;
use std::time::Duration;

use bayeux_core::{ActivityPolicy, Overflow, TimestampFormat, Transport};
use bayeux_http::SameSite;

use super::{Filter, LogFormat};

/// A place for a value, borrowed from the settings: it parses text into itself and prints itself back.
///
/// One accessor per option yields one of these, so that an option's type, default and destination are said once.
#[derive(Debug)]
pub(super) enum Slot<'a> {
    /// A length of time; `negative` says what a value below zero means.
    Time { value: &'a mut Duration, negative: Negative },
    /// A length of time, or none: negative.
    TimeOrOff(&'a mut Option<Duration>),
    /// Whole seconds, or none: negative. A bare number is seconds, as in the cookie attribute it becomes.
    SecondsOrOff(&'a mut Option<Duration>),
    /// Yes or no.
    Flag(&'a mut bool),
    /// A number of things; negative is refused.
    Count(&'a mut usize),
    /// A number of things, `usize::MAX` for any number: negative.
    CountOrOff(&'a mut usize),
    /// A number of bytes, `usize::MAX` for any number: negative.
    SizeOrOff(&'a mut usize),
    /// A number of bytes.
    Size(&'a mut usize),
    /// A number of shards.
    Shards(&'a mut u16),
    /// A number, whatever its sign.
    Integer(&'a mut i32),
    /// A number of things, 0 for all: negative.
    CountOrAll(&'a mut usize),
    /// A number of streams.
    Streams(&'a mut u32),
    /// An HTTP status that says that something failed (rule E-49).
    ErrorStatus(&'a mut u16),
    /// Any text.
    Text(&'a mut String),
    /// Any text, or nothing.
    TextOrOff(&'a mut Option<String>),
    /// A cookie's `SameSite`; none when empty.
    SameSite(&'a mut Option<SameSite>),
    /// The shape of the logs.
    LogFormat(&'a mut LogFormat),
    /// Which logs are wanted.
    LogLevel(&'a mut String),
    /// Texts, separated by commas.
    List(&'a mut Vec<String>),
    /// Paths, separated by commas: a leading slash is added, a trailing `/*` dropped (rule O-33).
    Paths(&'a mut Vec<String>),
    /// Names of transports, separated by commas.
    Transports(&'a mut Vec<Transport>),
    /// What to do with a queue that is full.
    Overflow(&'a mut Overflow),
    /// How timestamps are written.
    TimestampFormat(&'a mut TimestampFormat),
    /// What counts as activity.
    ActivityPolicy(&'a mut ActivityPolicy),
    /// Ready-made filters on channels.
    Filters(&'a mut Vec<Filter>),
}

/// What a negative length of time means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Negative {
    /// Nothing: it is refused.
    Refused,
    /// Zero.
    Zero,
    /// This value.
    Default(Duration),
    /// Longer than anybody waits.
    Never,
}

/// What [`Negative::Never`] stands for: ten thousand days. Engine time is 64 bits of nanoseconds, which ends after 584
/// years; adding a few of these to "now" stays far from that.
const NEVER: Duration = Duration::from_secs(10_000 * 86_400);

impl Slot<'_> {
    /// What to call the value in the help text.
    pub(super) fn placeholder(&self) -> &'static str {
        match self {
            Self::Time { .. } | Self::TimeOrOff(_) | Self::SecondsOrOff(_) => "TIME",
            Self::Flag(_) => "BOOL",
            Self::Count(_)
            | Self::CountOrOff(_)
            | Self::Shards(_)
            | Self::Integer(_)
            | Self::CountOrAll(_)
            | Self::Streams(_)
            | Self::ErrorStatus(_) => "N",
            Self::SizeOrOff(_) | Self::Size(_) => "BYTES",
            Self::Text(_) | Self::TextOrOff(_) => "TEXT",
            Self::SameSite(_)
            | Self::LogFormat(_)
            | Self::Overflow(_)
            | Self::TimestampFormat(_)
            | Self::ActivityPolicy(_) => "WORD",
            Self::LogLevel(_) => "LEVEL",
            Self::List(_) | Self::Transports(_) | Self::Filters(_) => "LIST",
            Self::Paths(_) => "PATH",
        }
    }

    /// Whether a flag for it may be repeated, each adding to the list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::List(_) | Self::Paths(_) | Self::Transports(_) | Self::Filters(_))
    }

    /// Whether it is yes or no.
    pub(super) fn is_flag(&self) -> bool {
        matches!(self, Self::Flag(_))
    }

    /// What would have been accepted.
    pub(super) fn accepted(&self) -> String {
        const TIME: &str = "a number of milliseconds, or a number with a unit: ms, s, m, h, d";
        const BYTES: &str = "a number of bytes, or a number with a unit: KiB, MiB, GiB";
        match self {
            Self::Time { negative: Negative::Refused, .. } => TIME.into(),
            Self::Time { negative: Negative::Zero, .. } => format!("{TIME}; 0 or less: off"),
            Self::Time { negative: Negative::Default(_), .. } => format!("{TIME}; negative: the default"),
            Self::Time { negative: Negative::Never, .. } | Self::TimeOrOff(_) => format!("{TIME}; negative: off"),
            Self::SecondsOrOff(_) => "a number of seconds, or a number with a unit: s, m, h, d; negative: off".into(),
            Self::Flag(_) => "true or false".into(),
            Self::Count(_) | Self::Streams(_) => "a number".into(),
            Self::CountOrOff(_) => "a number; negative: unlimited".into(),
            Self::SizeOrOff(_) => format!("{BYTES}; negative: unlimited"),
            Self::Size(_) => BYTES.into(),
            Self::Shards(_) => format!("a number from 1 to {}", bayeux_core::ShardId::COUNT_MAX),
            Self::Integer(_) => "a number; negative: unlimited".into(),
            Self::CountOrAll(_) => "a number; 0 or less: all".into(),
            Self::ErrorStatus(_) => "an HTTP status from 400 to 599".into(),
            Self::Text(_) | Self::TextOrOff(_) => "a text".into(),
            Self::SameSite(_) => "one of Strict, Lax, None".into(),
            Self::LogFormat(_) => "one of text, json".into(),
            Self::LogLevel(_) => {
                "error, warn, info, debug, trace or off, or a list such as info,bayeux_http=debug".into()
            }
            Self::List(_) => "texts, separated by commas".into(),
            Self::Paths(_) => "paths such as /cometd, separated by commas".into(),
            Self::Transports(_) => {
                "names of transports, separated by commas: websocket, long-polling, callback-polling".into()
            }
            Self::Overflow(_) => "one of remove-session, drop-newest, drop-oldest, keep-latest".into(),
            Self::TimestampFormat(_) => "one of http-date, iso-8601".into(),
            Self::ActivityPolicy(_) => "one of client, client-server".into(),
            Self::Filters(_) => {
                "CHANNEL=FILTER, separated by commas; channels such as /chat/**, filters no-markup, no-scripts".into()
            }
        }
    }

    /// Takes over `text`, or says with `Err` that it is not acceptable.
    pub(super) fn parse(&mut self, text: &str) -> Result<(), Unacceptable> {
        let text = text.trim();
        match self {
            Self::Time { value, negative } => {
                let millis = millis(text, 1)?;
                **value = match (u64::try_from(millis), *negative) {
                    (Ok(millis), _) => Duration::from_millis(millis),
                    (Err(_), Negative::Refused) => return Err(Unacceptable),
                    (Err(_), Negative::Zero) => Duration::ZERO,
                    (Err(_), Negative::Default(default)) => default,
                    (Err(_), Negative::Never) => NEVER,
                };
            }
            Self::TimeOrOff(value) => **value = u64::try_from(millis(text, 1)?).ok().map(Duration::from_millis),
            Self::SecondsOrOff(value) => {
                **value = u64::try_from(millis(text, 1000)?).ok().map(|ms| Duration::from_secs(ms / 1000));
            }
            Self::Flag(value) => {
                **value = match text.to_ascii_lowercase().as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(Unacceptable),
                }
            }
            Self::Count(value) => **value = text.parse().map_err(|_| Unacceptable)?,
            Self::CountOrOff(value) => **value = unlimited_if_negative(text.parse().map_err(|_| Unacceptable)?)?,
            Self::SizeOrOff(value) => **value = unlimited_if_negative(bytes(text)?)?,
            Self::Size(value) => **value = usize::try_from(bytes(text)?).map_err(|_| Unacceptable)?,
            Self::Shards(value) => {
                let shards = text.parse().map_err(|_| Unacceptable)?;
                if shards == 0 || shards > bayeux_core::ShardId::COUNT_MAX {
                    return Err(Unacceptable);
                }
                **value = shards;
            }
            Self::Integer(value) => **value = text.parse().map_err(|_| Unacceptable)?,
            Self::CountOrAll(value) => {
                let count: i64 = text.parse().map_err(|_| Unacceptable)?;
                **value = usize::try_from(count).unwrap_or(0);
            }
            Self::Streams(value) => **value = text.parse().map_err(|_| Unacceptable)?,
            Self::ErrorStatus(value) => {
                let status = text.parse().map_err(|_| Unacceptable)?;
                if !(400..600).contains(&status) {
                    return Err(Unacceptable);
                }
                **value = status;
            }
            Self::Text(value) => **value = text.to_owned(),
            Self::TextOrOff(value) => **value = Some(text.to_owned()).filter(|text| !text.is_empty()),
            Self::SameSite(value) => {
                let words = [SameSite::Strict, SameSite::Lax, SameSite::None];
                **value = match text {
                    "" => None,
                    _ => Some(words.into_iter().find(|w| w.as_str().eq_ignore_ascii_case(text)).ok_or(Unacceptable)?),
                };
            }
            Self::LogFormat(value) => {
                **value = match text {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return Err(Unacceptable),
                }
            }
            Self::LogLevel(value) => {
                if !crate::log::is_level(text) {
                    return Err(Unacceptable);
                }
                **value = text.to_owned();
            }
            Self::List(value) => **value = items(text).map(str::to_owned).collect(),
            Self::Paths(value) => {
                let paths: Vec<String> = items(text).map(path).collect::<Result<_, _>>()?;
                if paths.is_empty() {
                    return Err(Unacceptable);
                }
                **value = paths;
            }
            Self::Transports(value) => {
                let mut transports = Vec::new();
                for name in items(text) {
                    let transport = Transport::from_name(name).ok_or(Unacceptable)?;
                    if !transports.contains(&transport) {
                        transports.push(transport);
                    }
                }
                if transports.is_empty() {
                    return Err(Unacceptable);
                }
                **value = transports;
            }
            Self::Overflow(value) => **value = Overflow::from_word(text).ok_or(Unacceptable)?,
            Self::TimestampFormat(value) => {
                **value = match text {
                    "http-date" => TimestampFormat::HttpDate,
                    "iso-8601" => TimestampFormat::Iso8601,
                    _ => return Err(Unacceptable),
                }
            }
            Self::ActivityPolicy(value) => {
                **value = match text {
                    "client" => ActivityPolicy::Client,
                    "client-server" => ActivityPolicy::ClientServer,
                    _ => return Err(Unacceptable),
                }
            }
            Self::Filters(value) => {
                **value = items(text).map(|item| Filter::parse(item).ok_or(Unacceptable)).collect::<Result<_, _>>()?;
            }
        }
        Ok(())
    }
}

/// The value as [`Slot::parse`] would read it back.
impl fmt::Display for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time { value, negative: Negative::Never } if **value >= NEVER => f.write_str("-1"),
            Self::Time { value, .. } => f.write_str(&time(**value)),
            Self::TimeOrOff(Some(value)) => f.write_str(&time(*value)),
            Self::SecondsOrOff(Some(value)) => write!(f, "{}s", value.as_secs()),
            Self::TimeOrOff(None) | Self::SecondsOrOff(None) => f.write_str("-1"),
            Self::Flag(value) => write!(f, "{value}"),
            Self::CountOrOff(value) | Self::SizeOrOff(value) if **value == usize::MAX => f.write_str("-1"),
            Self::Count(value) | Self::CountOrOff(value) | Self::CountOrAll(value) => write!(f, "{value}"),
            Self::Size(value) | Self::SizeOrOff(value) => f.write_str(&size(**value)),
            Self::Shards(value) | Self::ErrorStatus(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Streams(value) => write!(f, "{value}"),
            Self::Text(value) | Self::LogLevel(value) => f.write_str(value),
            Self::TextOrOff(value) => f.write_str(value.as_deref().unwrap_or_default()),
            Self::SameSite(value) => f.write_str(value.map_or("", SameSite::as_str)),
            Self::LogFormat(LogFormat::Text) => f.write_str("text"),
            Self::LogFormat(LogFormat::Json) => f.write_str("json"),
            Self::List(value) | Self::Paths(value) => f.write_str(&value.join(",")),
            Self::Transports(value) => {
                let names: Vec<&str> = value.iter().map(|transport| transport.as_str()).collect();
                f.write_str(&names.join(","))
            }
            Self::Overflow(value) => f.write_str(value.as_str()),
            Self::TimestampFormat(TimestampFormat::HttpDate) => f.write_str("http-date"),
            Self::TimestampFormat(TimestampFormat::Iso8601) => f.write_str("iso-8601"),
            Self::ActivityPolicy(ActivityPolicy::Client) => f.write_str("client"),
            Self::ActivityPolicy(ActivityPolicy::ClientServer) => f.write_str("client-server"),
            Self::Filters(value) => {
                let items: Vec<String> = value.iter().map(Filter::to_string).collect();
                f.write_str(&items.join(","))
            }
        }
    }
}

/// A text is not what its [`Slot`] accepts; [`Slot::accepted`] says what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unacceptable;

/// A number and what follows it.
fn number_and_unit(text: &str) -> Result<(i64, &str), Unacceptable> {
    let digits = text.trim_start_matches('-');
    let end = digits.find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |at| at + text.len() - digits.len());
    let (number, unit) = text.split_at(end);
    Ok((number.parse().map_err(|_| Unacceptable)?, unit.trim_start()))
}

/// A time as every option takes it: with a unit, or in milliseconds; not negative.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    millis(text.trim(), 1).ok().and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis)
}

/// Milliseconds; a bare number counts `bare` of them.
fn millis(text: &str, bare: i64) -> Result<i64, Unacceptable> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "" => bare,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(Unacceptable),
    };
    number
        .checked_mul(factor)
        .filter(|millis| *millis <= 0 || u128::from(millis.unsigned_abs()) <= NEVER.as_millis())
        .ok_or(Unacceptable)
}

/// Bytes.
fn bytes(text: &str) -> Result<i64, Unacceptable> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(Unacceptable),
    };
    number.checked_mul(factor).ok_or(Unacceptable)
}

fn unlimited_if_negative(number: i64) -> Result<usize, Unacceptable> {
    if number < 0 { Ok(usize::MAX) } else { usize::try_from(number).map_err(|_| Unacceptable) }
}

/// The elements of a list that are not blank.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A path as rule O-33 reads it.
fn path(text: &str) -> Result<String, Unacceptable> {
    let text = text.strip_suffix("/*").unwrap_or(text);
    let text = text.trim_matches('/');
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic() && !b"?#*\"<>".contains(&b)) {
        return Err(Unacceptable);
    }
    Ok(format!("/{text}"))
}

fn time(value: Duration) -> String {
    let millis = value.as_millis();
    for (unit, factor) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis != 0 && millis.is_multiple_of(factor) {
            return format!("{}{unit}", millis / factor);
        }
    }
    format!("{millis}ms")
}

fn size(value: usize) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if value != 0 && value.is_multiple_of(1 << shift) {
            return format!("{}{unit}", value >> shift);
        }
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed_time(text: &str) -> Result<Duration, Unacceptable> {
        let mut value = Duration::ZERO;
        Slot::Time { value: &mut value, negative: Negative::Refused }.parse(text).map(|()| value)
    }

    #[test]
    fn bare_numbers_are_milliseconds() {
        assert_eq!(parsed_time("30000"), Ok(Duration::from_secs(30)));
        assert_eq!(parsed_time(" 30 s "), Ok(Duration::from_secs(30)));
        assert_eq!(parsed_time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parsed_time("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "s", "1.5s", "-1", "1 year", "99999999999d", "--1", "0x10"] {
            assert_eq!(parsed_time(bad), Err(Unacceptable), "{bad:?}");
        }
    }

    #[test]
    fn cookie_ages_are_seconds() {
        let mut age = None;
        Slot::SecondsOrOff(&mut age).parse("3600").expect("a number");
        assert_eq!(age, Some(Duration::from_secs(3600)));
        Slot::SecondsOrOff(&mut age).parse("2h").expect("a number with unit");
        assert_eq!(age, Some(Duration::from_secs(7200)));
        Slot::SecondsOrOff(&mut age).parse("-1").expect("off");
        assert_eq!(age, None);
    }

    #[test]
    fn negative_numbers_switch_limits_off() {
        let mut size = 0;
        Slot::SizeOrOff(&mut size).parse("64KiB").expect("a size");
        assert_eq!(size, 65_536);
        Slot::SizeOrOff(&mut size).parse("-1").expect("off");
        assert_eq!(size, usize::MAX);
        assert_eq!(Slot::SizeOrOff(&mut size).to_string(), "-1");
    }

    #[test]
    fn paths_are_read_as_mappings() {
        let mut paths = Vec::new();
        Slot::Paths(&mut paths).parse("cometd/*, /other/").expect("two paths");
        assert_eq!(paths, ["/cometd", "/other"]);
        assert_eq!(Slot::Paths(&mut paths).parse("/"), Err(Unacceptable));
        assert_eq!(Slot::Paths(&mut paths).parse("/a?b"), Err(Unacceptable));
    }

    #[test]
    fn only_failures_may_answer_a_replaced_connect() {
        let mut status = 500;
        assert_eq!(Slot::ErrorStatus(&mut status).parse("200"), Err(Unacceptable), "E-49");
        assert_eq!(Slot::ErrorStatus(&mut status).parse("400"), Ok(()), "E-49");
        assert_eq!(status, 400);
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        for text in ["30s", "1500ms", "2h", "0ms"] {
            let mut value = Duration::ZERO;
            let mut slot = Slot::Time { value: &mut value, negative: Negative::Zero };
            slot.parse(text).expect("a time");
            assert_eq!(slot.to_string(), text);
        }
    }
}
