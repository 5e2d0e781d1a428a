//! Channel templates: channels with variables for whole segments (rule C-10).

use bytestring::ByteString;

use crate::channel::{ChannelError, ChannelLimits, ChannelPattern};

/// A channel some of whose segments are variables: `/news/{category}` binds `category` to `sport` on `/news/sport`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelTemplate {
    text: ByteString,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Fixed(ByteString),
    Variable(ByteString),
}

/// The variables of a [`ChannelTemplate`] and their values on one channel, in the order of the template.
pub type Parameters = Vec<(ByteString, ByteString)>;

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Not even a channel; or variables and a wildcard in one (rule C-4).
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A variable's name is empty, or has other characters than letters, digits and `_`.
    #[error("{name:?} is no name of a variable")]
    Name {
        /// What stands between the braces.
        name: String,
    },
    /// A name that two variables have.
    #[error("two variables {name:?}")]
    Twice {
        /// The name.
        name: String,
    },
}

impl ChannelTemplate {
    /// Reads a template; `None` where `text` has no variable: then it is a plain channel or wildcard.
    ///
    /// # Errors
    /// [`TemplateError`] where it has variables and is no template.
    pub fn parse(text: &str, limits: &ChannelLimits) -> Result<Option<Self>, TemplateError> {
        let pattern = ChannelPattern::parse(&ByteString::from(text), limits)?;
        let mut segments = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for segment in pattern.as_str().split('/').skip(1) {
            let variable = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            segments.push(match variable {
                Some(name) => {
                    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                        return Err(TemplateError::Name { name: name.to_owned() });
                    }
                    if names.contains(&name) {
                        return Err(TemplateError::Twice { name: name.to_owned() });
                    }
                    names.push(name);
                    Segment::Variable(ByteString::from(name))
                }
                None => Segment::Fixed(ByteString::from(segment)),
            });
        }
        if names.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { text: pattern.detach().text().clone(), segments }))
    }

    /// The template's text, normalised.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many segments it has: as many as each channel that it matches.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The first segment, where it is none of the variables: each channel that the template matches begins with it.
    pub fn first_segment(&self) -> Option<&str> {
        match self.segments.first()? {
            Segment::Fixed(text) => Some(text),
            Segment::Variable(_) => None,
        }
    }

    /// The values of the variables on `channel`; `None` where it does not match.
    pub fn bind(&self, channel: &ChannelPattern) -> Option<Parameters> {
        if channel.wildcard().is_some() {
            return None;
        }
        let mut parameters = Parameters::new();
        let mut values = channel.as_str().split('/').skip(1);
        for segment in &self.segments {
            let value = values.next()?;
            match segment {
                Segment::Fixed(text) if **text == *value => {}
                Segment::Fixed(_) => return None,
                Segment::Variable(name) => parameters.push((name.clone(), ByteString::from(value))),
            }
        }
        values.next().is_none().then_some(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Result<Option<ChannelTemplate>, TemplateError> {
        ChannelTemplate::parse(text, &ChannelLimits::default())
    }

    fn channel(text: &str) -> ChannelPattern {
        ChannelPattern::parse(&ByteString::from(text), &ChannelLimits::default()).expect("a channel of this test")
    }

    /// C-10
    #[test]
    fn variables_bind_whole_segments() {
        let news = template("/news/{category}/{event}/").expect("valid").expect("has variables");
        assert_eq!(
            (news.as_str(), news.segment_count(), news.first_segment()),
            ("/news/{category}/{event}", 3, Some("news"))
        );
        let bound = news.bind(&channel("/news/sport/goal"));
        assert_eq!(bound, Some(vec![("category".into(), "sport".into()), ("event".into(), "goal".into())]));
        for other in ["/news/sport", "/news/sport/goal/late", "/old/sport/goal", "/news/sport/*"] {
            assert_eq!(news.bind(&channel(other)), None, "{other}");
        }
        assert_eq!(template("/{a}").expect("valid").expect("has variables").first_segment(), None);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        assert_eq!(template("/news/sport"), Ok(None));
        assert_eq!(template("/news/x{category}"), Ok(None), "a literal");
        assert!(matches!(template("/news/{category}/*"), Err(TemplateError::Channel(_))), "C-4");
        assert_eq!(template("/{a}/{a}"), Err(TemplateError::Twice { name: "a".into() }));
        for (text, name) in [("/{}", ""), ("/{a b}", "a b"), ("/{a-b}", "a-b")] {
            assert_eq!(template(text), Err(TemplateError::Name { name: name.into() }));
        }
        assert!(matches!(template("news/{a}"), Err(TemplateError::Channel(_))));
    }
}
