//! The names that scripts have for ids, which differ from run to run.

/// Ids, oldest first, and their names, such as `client:alice` and `cookie:alice#2`.
#[derive(Default)]
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    /// Gives an id the name `first`, or `first#2`, … if that is taken; nothing where it has a name.
    pub(super) fn learn(&mut self, id: &str, first: &str) {
        if self.0.iter().any(|(known, _)| known == id) {
            return;
        }
        let taken = self.0.iter().filter(|(_, name)| is_one_of(name, first)).count();
        let name = if taken == 0 { first.to_owned() } else { format!("{first}#{}", taken + 1) };
        self.0.push((id.to_owned(), name));
    }

    /// The id of the last session that the client `name` made.
    pub(super) fn last_session(&self, name: &str) -> Option<&str> {
        let first = format!("client:{name}");
        self.0.iter().rev().find(|(_, known)| is_one_of(known, &first)).map(|(id, _)| id.as_str())
    }

    /// With ids in the place of names.
    pub(super) fn resolve(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (id, name)| text.replace(&format!("<{name}>"), id))
    }

    /// With names in the place of ids.
    pub(super) fn anonymous(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, &format!("<{name}>")))
    }
}

/// Whether `name` is `first` or `first#2`, …
fn is_one_of(name: &str, first: &str) -> bool {
    name.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
}
