//! Options of `bayeux serve`, from all their sources.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use bayeux_cli::options::{Loaded, OptionError, command, explain, load};
use clap::Command;

use crate::choices::Choices;
use crate::envelope::damage;

/// Choices of a file, variables and flags with names that exist, mostly, and values that fit, at times.
///
/// They are loaded, or refused in words. What is loaded and printed is, as a file, loaded as the same.
pub fn options(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut file = Vec::new();
    let mut variables = Vec::new();
    let mut flags = Vec::new();
    for _ in 0..OPTIONS_MAX {
        if choices.is_empty() {
            break;
        }
        let source = choices.below(8);
        let (name, value) = (name(&mut choices), value(&mut choices));
        match source {
            0..=4 => file.extend(format!("{name} = {value}\n").into_bytes()),
            5 => variables.push((format!("BAYEUX_{}", words(&name, '_').to_uppercase()), bare(&value))),
            _ => flags.push(format!("--{}={}", words(&name, '-'), bare(&value))),
        }
    }
    if choices.rarely(40) {
        damage(&mut choices, &mut file);
    }
    match load_from(&file, &variables, flags) {
        Some(Ok(loaded)) => is_printed_in_full(&loaded),
        Some(Err(error)) => assert!(!error.to_string().is_empty()),
        None => {}
    }
}

const OPTIONS_MAX: usize = 12;

fn is_printed_in_full(loaded: &Loaded) {
    let printed = loaded.print();
    match load_from(printed.as_bytes(), &[], Vec::new()) {
        Some(Ok(again)) => assert_eq!(again.settings, loaded.settings, "{printed}"),
        Some(Err(error)) => panic!("{error}\n{printed}"),
        None => unreachable!("there are no flags"),
    }
}

/// `None`: clap has refused the flags.
fn load_from(file: &[u8], variables: &[(String, String)], flags: Vec<String>) -> Option<Result<Loaded, OptionError>> {
    static COMMAND: OnceLock<Command> = OnceLock::new();
    let mut arguments = vec![String::from("serve")];
    let path = File::new(file);
    if !file.is_empty() {
        arguments.extend([String::from("--config"), path.0.display().to_string()]);
    }
    arguments.extend(flags);
    match COMMAND.get_or_init(command).clone().try_get_matches_from(arguments) {
        Ok(matches) => Some(load(&matches, variables.iter().map(|(name, value)| (name.into(), value.into())))),
        Err(error) => explain(&error).map(Err),
    }
}

/// A file that is gone when it is not needed any more.
struct File(PathBuf);

impl File {
    fn new(text: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("bayeux-fuzz-{}.toml", std::process::id()));
        if !text.is_empty() {
            fs::write(&path, text).expect("a temporary file can be written");
        }
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // There is none where there was no text.
        let _ = fs::remove_file(&self.0);
    }
}

/// An option's name as files have it.
fn name(choices: &mut Choices<'_>) -> String {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let defaults = load_from(b"", &[], Vec::new()).expect("there are no flags").expect("there are no options");
        defaults.print().lines().filter_map(|line| Some(line.split_once(" =")?.0.to_owned())).collect()
    });
    let plain = &names[usize::from(choices.byte()) % names.len()];
    let prefix = choices.pick(&["", "", "", "ws.", "long-polling.", "long-polling.json.", "long-polling.jsonp.", "x"]);
    format!("{prefix}{}", plain.strip_prefix("ws.").filter(|_| !prefix.is_empty()).unwrap_or(plain))
}

/// A value as files have it.
fn value(choices: &mut Choices<'_>) -> String {
    match choices.below(8) {
        0..=3 => choices
            .pick(&[
                "1",
                "0",
                "true",
                "false",
                "\"10s\"",
                "\"5m\"",
                "\"1KiB\"",
                "-1",
                "\"\"",
                "\"a,b\"",
                "\"/a=no-markup\"",
                "[\"websocket\", \"long-polling\"]",
                "\"callback-polling\"",
                "\"/x/*\"",
                "\"*\"",
                "\"http://a.example\"",
                "\"debug\"",
                "\"json\"",
                "\"drop-oldest\"",
                "\"client\"",
                "\"127.0.0.1:0\"",
                "18446744073709551615",
                "\"18446744073709551615ms\"",
                "1e300",
                "nan",
                "0x10",
                "1979-05-27",
                "[]",
                "[[1]]",
                "{ a = 1 }",
            ])
            .to_owned(),
        4 => choices.pair().to_string(),
        5 => format!(
            "\"{}{}\"",
            choices.byte(),
            choices.pick(&["ms", "s", "m", "h", "d", "B", "KiB", "MiB", "GiB", "%"])
        ),
        6 => format!("\"{}\"", String::from_utf8_lossy(choices.bytes(20)).escape_default()),
        _ => String::from_utf8_lossy(choices.bytes(20)).into_owned(),
    }
}

/// What other sources have of a file's text in quotes.
fn bare(value: &str) -> String {
    value.trim_matches('"').replace('\0', "")
}

/// `long-polling.maxInterval` as words with `between` between them.
fn words(name: &str, between: char) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        match letter {
            'A'..='Z' => words.extend([between, letter.to_ascii_lowercase()]),
            '.' | '-' => words.push(between),
            _ => words.push(letter),
        }
    }
    words
}
