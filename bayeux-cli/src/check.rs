//! `bayeux check`: the conformance suite against any Bayeux server.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bayeux_testkit::conformance::{
    self, Case, CheckError, Expectations, Options, Profile, Report, Target, TargetError, Transport,
};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// Why there is no report, or none that could be written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("{0:?} is not a header: NAME:VALUE")]
    Header(String),
    #[error("--handshake-ext is not a JSON object")]
    HandshakeExt(#[source] serde_json::Error),
    #[error("--channel-prefix {0:?} is not a channel, such as /test")]
    Prefix(String),
    #[error("no case matches {0:?}; --list with --profile, --hostile and --slow shows more of them")]
    Pattern(String),
    #[error("{pattern:?} means no case without {}", flags.join(" and "))]
    Unselected { pattern: String, flags: Vec<String> },
    #[error("there is no directory for {}", .0.display())]
    Directory(PathBuf),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a list of expected deviations", path.display())]
    Expect { path: PathBuf, source: Box<toml::de::Error> },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Check(#[from] CheckError),
}

impl Error {
    /// Whether the command line, rather than the server or the machine, is at fault.
    fn is_usage(&self) -> bool {
        match self {
            Self::Target(_) | Self::Header(_) | Self::HandshakeExt(_) | Self::Prefix(_) => true,
            Self::Pattern(_) | Self::Unselected { .. } | Self::Directory(_) => true,
            Self::Read { .. } | Self::Expect { .. } => true,
            Self::Write { .. } | Self::Runtime(_) | Self::Check(_) => false,
        }
    }
}

/// The command `check` with its flags.
pub(crate) fn command() -> Command {
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let several = |arg: Arg| arg.action(ArgAction::Append).value_delimiter(',');
    let file = |name: &'static str, help: &'static str| value(name, "FILE", help).value_parser(value_parser!(PathBuf));
    Command::new("check")
        .about("Checks whether a server speaks Bayeux as its clients need it")
        .after_help(
            "A case of bayeux-1.0 that fails makes the exit code 1; others are warnings, unless --strict. \
             PATTERN is the id of a case, a family or a rule; * stands for any text.",
        )
        .arg(
            Arg::new("url")
                .value_name("URL")
                .required_unless_present("list")
                .help("The endpoint: http, https, ws, wss"),
        )
        .next_help_heading("Cases")
        .arg(
            several(value("profile", "PROFILE", "Whose promises to check [default: bayeux-1.0, cometd]"))
                .value_parser(PossibleValuesParser::new(Profile::ALL.map(Profile::name))),
        )
        .arg(
            several(value("transport", "TRANSPORT", "Only over this one [default: all that the server offers]"))
                .value_parser(PossibleValuesParser::new(Transport::ALL.map(Transport::name))),
        )
        .arg(several(value("only", "PATTERN", "Only these cases")))
        .arg(several(value("skip", "PATTERN", "Not these cases")))
        .arg(flag("hostile", "Also send what no decent client sends"))
        .arg(flag("slow", "Also wait for what takes the server as long as it advises"))
        .arg(flag("list", "List the cases instead of running them"))
        .next_help_heading("Outcome")
        .arg(flag("strict", "Let any failure make the exit code 1"))
        .arg(file("expect", "Deviations that are known, in TOML"))
        .arg(file("json", "Write the report as JSON"))
        .arg(file("junit", "Write the report as JUnit XML"))
        .arg(file("html", "Write the report as a page"))
        .next_help_heading("Conversation")
        .arg(value("timeout", "TIME", "How long to wait for an answer [default: 10s]").value_parser(time))
        .arg(
            value("jobs", "N", "Cases that run at the same time [default: 8]")
                .value_parser(value_parser!(u16).range(1..=1000)),
        )
        .arg(value("channel-prefix", "CHANNEL", "Where the suite's channels are [default: /conformance]"))
        .arg(value("header", "NAME:VALUE", "A header for each request").action(ArgAction::Append))
        .arg(value("handshake-ext", "JSON", "Members for the ext of each handshake"))
        .arg(file("ca", "Authorities to trust, PEM [default: the system's]"))
        .arg(flag("insecure", "Accept any TLS certificate").conflicts_with("ca"))
}

/// Runs what the command line asks for.
pub(crate) fn main(matches: &ArgMatches) -> ExitCode {
    match run(matches) {
        Ok(code) => code,
        Err(error) if error.is_usage() => crate::usage_error(&error),
        Err(error) => {
            crate::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(matches: &ArgMatches) -> Result<ExitCode, Error> {
    let options = options(matches)?;
    patterns_mean_something(&options)?;
    if matches.get_flag("list") {
        crate::print(&list(&options));
        return Ok(ExitCode::SUCCESS);
    }
    let target = Target::parse(matches.get_one::<String>("url").map_or("", String::as_str))?;
    // Better now than when all is done.
    for (name, _) in REPORTS {
        reachable(matches, name)?;
    }
    let expectations = matches.get_one::<PathBuf>("expect").map(|path| expectations(path)).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let mut report = runtime.block_on(conformance::run(target, options, progress()))?;
    if let Some(expectations) = &expectations {
        report.expect(expectations);
    }
    crate::print(&report.terminal(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()));
    for (name, form) in REPORTS {
        write(matches, name, || form(&report))?;
    }
    let acceptable = report.is_acceptable(matches.get_flag("strict"));
    Ok(if acceptable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A form of the report.
type Form = fn(&Report) -> String;

/// The flags that name files to write, and in which form.
const REPORTS: [(&str, Form); 3] = [("json", Report::json), ("junit", Report::junit), ("html", Report::html)];

/// The directory of a file that is to be written exists.
fn reachable(matches: &ArgMatches, name: &str) -> Result<(), Error> {
    let Some(path) = matches.get_one::<PathBuf>(name) else { return Ok(()) };
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() && !directory.is_dir() => {
            Err(Error::Directory(path.clone()))
        }
        _ => Ok(()),
    }
}

/// A pattern with a spelling mistake must not pass for a server without one.
fn patterns_mean_something(options: &Options) -> Result<(), Error> {
    let catalogue = conformance::catalogue();
    let meant = |pattern: &str| catalogue.iter().filter(|case| case.matches(pattern)).collect::<Vec<_>>();
    for pattern in options.only.iter().chain(&options.skip) {
        if meant(pattern).is_empty() {
            return Err(Error::Pattern(pattern.clone()));
        }
    }
    for pattern in &options.only {
        let flags = meant(pattern).into_iter().map(|case| flags_for(case, options)).min_by_key(Vec::len);
        if let Some(flags) = flags.filter(|flags| !flags.is_empty()) {
            return Err(Error::Unselected { pattern: pattern.clone(), flags });
        }
    }
    Ok(())
}

/// The flags that are missing for a case to run.
fn flags_for(case: &Case, options: &Options) -> Vec<String> {
    let profile = (!options.profiles.contains(&case.profile)).then(|| format!("--profile {}", case.profile.name()));
    let hostile = (case.hostile && !options.hostile).then(|| "--hostile".to_owned());
    let slow = (case.slow && !options.slow).then(|| "--slow".to_owned());
    profile.into_iter().chain(hostile).chain(slow).collect()
}

fn options(matches: &ArgMatches) -> Result<Options, Error> {
    let texts = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned();
    let mut options = Options::default();
    let profiles: Vec<Profile> = texts("profile").filter_map(|name| Profile::from_name(&name)).collect();
    if !profiles.is_empty() {
        options.profiles = profiles;
    }
    options.transports = texts("transport").filter_map(|name| Transport::from_name(&name)).collect();
    options.only = texts("only").collect();
    options.skip = texts("skip").collect();
    options.hostile = matches.get_flag("hostile");
    options.slow = matches.get_flag("slow");
    options.insecure = matches.get_flag("insecure");
    if let Some(path) = matches.get_one::<PathBuf>("ca") {
        let read = |source| Error::Read { path: path.clone(), source };
        options.authorities = Some(std::fs::read(path).map_err(read)?);
    }
    options.headers = texts("header").map(header).collect::<Result<_, _>>()?;
    if let Some(timeout) = matches.get_one::<Duration>("timeout") {
        options.timeout = *timeout;
    }
    if let Some(jobs) = matches.get_one::<u16>("jobs") {
        options.jobs = usize::from(*jobs);
    }
    if let Some(prefix) = matches.get_one::<String>("channel-prefix") {
        let prefix = prefix.trim_end_matches('/');
        if !prefix.starts_with('/') {
            return Err(Error::Prefix(prefix.to_owned()));
        }
        options.channel_prefix = prefix.to_owned();
    }
    if let Some(ext) = matches.get_one::<String>("handshake-ext") {
        options.handshake_ext = Some(serde_json::from_str(ext).map_err(Error::HandshakeExt)?);
    }
    Ok(options)
}

fn header(text: String) -> Result<(String, String), Error> {
    let is_line = |text: &str| !text.contains(['\r', '\n']);
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() && is_line(&text) => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(Error::Header(text)),
    }
}

/// A time with its unit, as `serve` takes it.
fn time(text: &str) -> Result<Duration, String> {
    crate::options::duration(text).ok_or_else(|| "not a time, such as 500ms or 10s".to_owned())
}

fn expectations(path: &Path) -> Result<Expectations, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| Error::Expect { path: path.to_owned(), source: Box::new(source) })
}

/// A line on a terminal that counts; silence elsewhere.
fn progress() -> impl FnMut(usize, usize) {
    let mut stderr = io::stderr();
    let shown = stderr.is_terminal();
    move |done, total| {
        if shown {
            let end = if done == total { "\r\x1b[K" } else { "" };
            let _ = write!(stderr, "\r{done} of {total}{end}");
            let _ = stderr.flush();
        }
    }
}

fn write(matches: &ArgMatches, name: &str, report: impl FnOnce() -> String) -> Result<(), Error> {
    let Some(path) = matches.get_one::<PathBuf>(name) else { return Ok(()) };
    std::fs::write(path, report()).map_err(|source| Error::Write { path: path.clone(), source })
}

/// The cases that would run, one a line.
fn list(options: &Options) -> String {
    let mut text = String::new();
    let mut family = "";
    for case in conformance::catalogue().iter().filter(|case| options.selects(case)) {
        if case.family != family {
            family = case.family;
            text.push_str(&format!("{}{family}\n", if text.is_empty() { "" } else { "\n" }));
        }
        text.push_str(&line(case));
    }
    text
}

fn line(case: &Case) -> String {
    let transports: Vec<&str> = case.transports.iter().map(Transport::name).collect();
    let notes = [(case.hostile, "hostile"), (case.slow, "slow")];
    let notes: String = notes.iter().filter(|(is, _)| *is).map(|(_, note)| format!(", {note}")).collect();
    format!(
        "  {}\n    {} ({})\n    {}, over {}{notes}\n",
        case.id,
        case.title,
        case.rules.join(", "),
        case.profile.name(),
        transports.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(flags: &[&str]) -> Option<String> {
        let matches = command().try_get_matches_from([&["check", "http://localhost/"], flags].concat());
        let options = options(&matches.expect("these flags exist")).expect("these options are valid");
        patterns_mean_something(&options).err().map(|error| error.to_string())
    }

    #[test]
    fn patterns_that_mean_nothing_are_told() {
        for (flags, expected) in [
            (&["--only", "connect"][..], None),
            (&["--only", "XA-*", "--skip", "ack-needs-true"], None),
            // Cases that are switched off anyhow may be skipped.
            (&["--skip", "hostile-depth"], None),
            (&["--only", "conect"], Some("no case matches \"conect\"")),
            (&["--skip", "conect"], Some("no case matches \"conect\"")),
            (&["--only", "hostile-id"], Some("\"hostile-id\" means no case without --hostile")),
            (&["--only", "hostile-depth"], Some("means no case without --profile ours and --hostile")),
            (&["--only", "hostile-depth", "--hostile"], Some("means no case without --profile ours")),
            (&["--only", "session-*-expires"], Some("means no case without --slow")),
        ] {
            let refusal = refusal(flags);
            let as_expected = match (&refusal, expected) {
                (Some(refusal), Some(expected)) => refusal.contains(expected),
                (refusal, expected) => refusal.is_none() && expected.is_none(),
            };
            assert!(as_expected, "{flags:?}: {refusal:?}");
        }
    }
}
