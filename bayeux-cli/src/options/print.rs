//! The options in force as a file that could be read back, with the origin of each value.

use std::fmt::Write;

use super::table::{Place, TABLE};
use super::{Loaded, Origin, Settings};

impl Loaded {
    /// The options in force, one a line, each with its origin as a comment.
    pub fn print(&self) -> String {
        let mut settings = self.settings.clone();
        let mut defaults = Settings::default();
        let mut out = String::new();
        for spec in TABLE {
            match spec.place {
                Place::Process(slot)
                | Place::Server(slot)
                | Place::Http(slot)
                | Place::Jsonp(slot)
                | Place::Ws(slot)
                | Place::WsOnly(slot) => {
                    let name = format!("{}{}", spec.place.usual_prefix(), spec.name);
                    let value = slot(&mut settings);
                    // To be given nothing is not the same as to be given no list, where there is something by default.
                    if value.is_list() && value.to_string().is_empty() && slot(&mut defaults).to_string().is_empty() {
                        continue;
                    }
                    line(&mut out, &name, &value.to_string(), &self.origin(spec.name, spec.place.prefixes()));
                }
                Place::Transport(slot) => {
                    let ws = (slot(&mut settings.config.websocket).to_string(), self.origin(spec.name, &["", "ws."]));
                    let prefixes = &["", "long-polling.", "long-polling.json."];
                    let polling =
                        (slot(&mut settings.config.long_polling).to_string(), self.origin(spec.name, prefixes));
                    if ws == polling {
                        line(&mut out, spec.name, &ws.0, &ws.1);
                    } else {
                        line(&mut out, &format!("ws.{}", spec.name), &ws.0, &ws.1);
                        line(&mut out, &format!("long-polling.{}", spec.name), &polling.0, &polling.1);
                    }
                    let jsonp = slot(&mut settings.config.callback_polling).to_string();
                    let origin = self.origin(spec.name, &["", "long-polling.", "long-polling.jsonp."]);
                    // What is said of long-polling would hold for it, too. Defaults are as they are.
                    if jsonp != polling.0 && (&origin, &polling.1) != (&Origin::Default, &Origin::Default) {
                        line(&mut out, &format!("long-polling.jsonp.{}", spec.name), &jsonp, &origin);
                    }
                }
            }
        }
        out
    }
}

fn line(out: &mut String, name: &str, value: &str, origin: &Origin) {
    // Of numbers only those that are read back as they are written: `+3` is no 3.
    let number = value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
    if number || value.parse::<bool>().is_ok() {
        writeln!(out, "{:<60} # {origin}", format!("{name} = {value}")).expect("a String takes everything");
        return;
    }
    let mut quoted = String::from('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => write!(quoted, "\\u{:04X}", u32::from(c)).expect("a String takes everything"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    writeln!(out, "{:<60} # {origin}", format!("{name} = {quoted}")).expect("a String takes everything");
}
