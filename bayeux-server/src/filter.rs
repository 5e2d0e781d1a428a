//! Data filters: what happens to the data of messages on some channels, as an aspect of its own (section 21.7).

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use bayeux_proto::{ErrorField, RawJson, Scalar};
use regex::{Captures, Regex};

use crate::channel::Channel;
use crate::error::{BuildError, DataError};
use crate::hooks::{Listener, Registration};
use crate::message::{Incoming, Outcome};
use crate::server::Server;

/// Changes the data of each message on the channels it is attached to, or stops the message (rule A-70).
///
/// Filters are message listeners: they run in the order of registration among those, see each other's changes, may take
/// their time, and one that panics or does not answer stops its message. What they return is what is published.
///
/// Closures `async |message, data| -> Result<RawJson, Abort>` are filters. Ready-made ones: [`NoMarkup`],
/// [`NoScripts`], [`RegexFilter`], and [`JsonFilter`] for those that look at each string, number or boolean.
pub trait DataFilter: Send + Sync + 'static {
    /// What becomes of `data`, which `message` has as its data.
    fn filter(&self, message: Incoming, data: RawJson) -> impl Future<Output = Result<RawJson, Abort>> + Send;
}

impl<F, R> DataFilter for F
where
    F: Fn(Incoming, RawJson) -> R + Send + Sync + 'static,
    R: Future<Output = Result<RawJson, Abort>> + Send,
{
    fn filter(&self, message: Incoming, data: RawJson) -> impl Future<Output = Result<RawJson, Abort>> + Send {
        self(message, data)
    }
}

/// A filter stops the message; its publisher is told why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abort(ErrorField);

impl Abort {
    /// With `404::message_deleted` (rule F-23).
    pub fn deleted() -> Self {
        Self(ErrorField::MESSAGE_DELETED)
    }

    /// With an error of the filter's own.
    pub fn with(error: ErrorField) -> Self {
        Self(error)
    }
}

/// Data that a filter could not read or write.
impl From<DataError> for Abort {
    fn from(_: DataError) -> Self {
        Self::deleted()
    }
}

/// As [`Abort::deleted`].
impl From<serde_json::Error> for Abort {
    fn from(_: serde_json::Error) -> Self {
        Self::deleted()
    }
}

impl Server {
    /// Attaches a filter to the channels that `pattern` matches: as [`Server::on_message`] with [`DataFilter::filter`].
    ///
    /// # Errors
    /// As [`Server::on_message`].
    pub fn add_filter(&self, pattern: &str, filter: impl DataFilter) -> Result<Registration, BuildError> {
        self.listen(pattern, filtering(filter))
    }
}

impl Channel {
    /// Attaches a filter: as [`Channel::on_message`] with [`DataFilter::filter`].
    pub fn add_filter(&self, filter: impl DataFilter) -> Registration {
        let listener = filtering(filter);
        self.on_message(move |message| listener(message))
    }
}

/// The listener that a filter is.
fn filtering(filter: impl DataFilter) -> Listener<Incoming, Outcome> {
    let filter = Arc::new(filter);
    Arc::new(move |message: Incoming| {
        let filter = Arc::clone(&filter);
        Box::pin(async move {
            let data = message.raw();
            match filter.filter(message, data.clone()).await {
                Ok(same) if same == data => Outcome::Continue,
                Ok(data) => Outcome::Data(data),
                Err(Abort(error)) => Outcome::Fail(error),
            }
        })
    })
}

/// A filter of each string, number and boolean of the data, however deep in arrays and objects (rule A-71). Keys stay
/// as they are, everything that is not changed stays exactly as it was written, and binary data is left alone.
pub trait JsonFilter: Send + Sync + 'static {
    /// What becomes of a string; `None`: it stays. Default: it stays.
    fn string(&self, text: &str) -> Option<String> {
        let _ = text;
        None
    }

    /// What becomes of a number, given as it was written; `None`: it stays. Default: it stays.
    fn number(&self, text: &str) -> Option<RawJson> {
        let _ = text;
        None
    }

    /// What becomes of a boolean; `None`: it stays. Default: it stays.
    fn boolean(&self, value: bool) -> Option<RawJson> {
        let _ = value;
        None
    }
}

/// Applies a [`JsonFilter`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<F>(pub F);

impl<F: JsonFilter> DataFilter for Json<F> {
    async fn filter(&self, message: Incoming, data: RawJson) -> Result<RawJson, Abort> {
        if message.message.is_binary() {
            // What looks like text there is bytes (rule XB-2).
            return Ok(data);
        }
        Ok(data.map_scalars(&mut |scalar| match scalar {
            Scalar::Text(text) => self.0.string(&text).map(|text| RawJson::from_text(&text)),
            Scalar::Number(text) => self.0.number(text),
            Scalar::Bool(value) => self.0.boolean(value),
        }))
    }
}

/// Makes markup harmless: `<` and `>` in strings become `&lt;` and `&gt;` (rule A-71).
///
/// `<b>hi</b><script>` becomes `&lt;b&gt;hi&lt;/b&gt;&lt;script&gt;`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMarkup;

impl JsonFilter for NoMarkup {
    fn string(&self, text: &str) -> Option<String> {
        text.contains(['<', '>']).then(|| text.replace('<', "&lt;").replace('>', "&gt;"))
    }
}

/// Makes script tags harmless: `<script` becomes `<span` and `script>` becomes `span>`, in whatever case (rule A-71).
///
/// `<b>hi</b><script>` becomes `<b>hi</b><span>`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoScripts;

impl JsonFilter for NoScripts {
    fn string(&self, text: &str) -> Option<String> {
        let opened = replace_ignoring_case(text, "<script", "<span");
        let closed = replace_ignoring_case(&opened, "script>", "span>");
        (closed != text).then(|| closed.into_owned())
    }
}

/// `from` is ASCII.
fn replace_ignoring_case<'t>(text: &'t str, from: &str, to: &str) -> Cow<'t, str> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(window) = bytes.get(at..at + from.len()) {
        if window.eq_ignore_ascii_case(from.as_bytes()) {
            found.push(at);
            at += from.len();
        } else {
            at += 1;
        }
    }
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len());
    let mut rest = 0;
    for at in found {
        // Where ASCII begins and ends characters do, too.
        replaced.push_str(text.get(rest..at).unwrap_or_default());
        replaced.push_str(to);
        rest = at + from.len();
    }
    replaced.push_str(text.get(rest..).unwrap_or_default());
    Cow::Owned(replaced)
}

/// Replaces what matches regular expressions, in strings (rule A-71). The time that it takes grows with the length of
/// the text, whatever the expression.
#[derive(Debug, Clone)]
pub struct RegexFilter(Vec<(Regex, String)>);

impl RegexFilter {
    /// A filter that replaces all matches of each expression, one after the other. In a replacement, `$1` or `${name}`
    /// stands for what a group matched. Syntax: that of the crate `regex`.
    ///
    /// # Errors
    /// [`regex::Error`] where an expression is none.
    pub fn new<'r>(rules: impl IntoIterator<Item = (&'r str, &'r str)>) -> Result<Self, regex::Error> {
        let rule = |(expression, replacement): (&str, &str)| Ok((Regex::new(expression)?, replacement.to_owned()));
        rules.into_iter().map(rule).collect::<Result<_, regex::Error>>().map(Self)
    }
}

impl JsonFilter for RegexFilter {
    fn string(&self, text: &str) -> Option<String> {
        let mut current = Cow::Borrowed(text);
        for (expression, replacement) in &self.0 {
            let mut grown = 0_usize;
            let replaced = expression.replace_all(&current, |captures: &Captures<'_>| {
                let mut with = String::new();
                // A replacement with groups can blow a text up; none needs to be that long.
                if grown < LENGTH_MAX {
                    captures.expand(replacement, &mut with);
                    grown += with.len();
                }
                with
            });
            if let Cow::Owned(replaced) = replaced {
                current = Cow::Owned(replaced);
            }
        }
        match current {
            Cow::Owned(text) => Some(text),
            Cow::Borrowed(_) => None,
        }
    }
}

/// Bytes that the replacements of one expression in one string may come to.
const LENGTH_MAX: usize = 16 * 1024 * 1024;

macro_rules! filters {
    ($($name:ident),*) => {
        $(impl DataFilter for $name {
            async fn filter(&self, message: Incoming, data: RawJson) -> Result<RawJson, Abort> {
                Json(self.clone()).filter(message, data).await
            }
        })*
    };
}

filters!(NoMarkup, NoScripts, RegexFilter);

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(filter: &impl JsonFilter, texts: &[(&str, &str)]) {
        for (text, expected) in texts {
            assert_eq!(filter.string(text).as_deref().unwrap_or(text), *expected);
        }
    }

    #[test]
    fn markup_and_scripts_are_made_harmless() {
        strings(
            &NoMarkup,
            &[("<b>hi</b><script>", "&lt;b&gt;hi&lt;/b&gt;&lt;script&gt;"), ("1 & 2", "1 & 2"), ("é<", "é&lt;")],
        );
        strings(
            &NoScripts,
            &[
                ("<b>hi</b><script>", "<b>hi</b><span>"),
                ("<SCRIPT src=x></ScRiPt>", "<span src=x></span>"),
                ("é<scriptü", "é<spanü"),
                ("a script", "a script"),
            ],
        );
    }

    #[test]
    fn expressions_are_replaced_one_after_the_other() {
        let filter = RegexFilter::new([(r"(?i)darn", "****"), (r"(\d+) (\w+)", "$2 $1")]).expect("expressions");
        strings(&filter, &[("Darn 12 apples", "**** apples 12"), ("fine", "fine")]);
        assert!(RegexFilter::new([("(", "")]).is_err());
    }
}
