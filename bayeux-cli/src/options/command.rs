//! The command line of `serve`, made from the table.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, value_parser};

use super::names::{Names, Resolved};
use super::source::NEGATED;
use super::table::{Place, Spec, TABLE, kebab};
use super::{OptionError, Origin, Settings};

/// The command `serve` with a flag for each option.
pub fn command() -> Command {
    let mut defaults = Settings::default();
    let mut command = Command::new("serve")
        .about("Runs a Bayeux server: WebSocket and long-polling on one port, a chat page at /")
        .after_help(
            "Every option can also be set in the environment (BAYEUX_MAX_INTERVAL=10s) and in a TOML file \
             (maxInterval = \"10s\"); flags win over the environment, the environment over the file. Times take a \
             unit: ms, s, m, h, d; a bare number is milliseconds. Sizes take KiB, MiB, GiB.",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("TOML file with options [env: BAYEUX_CONFIG]"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print the options in force and where each was set, then exit"),
        );
    for spec in TABLE {
        for prefix in spec.place.prefixes() {
            command = add(command, spec, prefix, &mut defaults);
        }
    }
    for name in Names::retired_flags() {
        command = command.arg(Arg::new(name.clone()).long(name).hide(true).num_args(0..=1).default_missing_value(""));
    }
    command
}

fn add(command: Command, spec: &Spec, prefix: &str, defaults: &mut Settings) -> Command {
    let flag = kebab(&format!("{prefix}{}", spec.name));
    let usual = prefix == spec.place.usual_prefix();
    let slot = match spec.place {
        Place::Process(slot)
        | Place::Server(slot)
        | Place::Http(slot)
        | Place::Jsonp(slot)
        | Place::Ws(slot)
        | Place::WsOnly(slot) => slot(defaults),
        Place::Transport(slot) => slot(&mut defaults.config.long_polling),
    };
    let default = slot.to_string();
    let help = match default.as_str() {
        "" => spec.doc.to_owned(),
        _ if spec.name == "shards" => format!("{} [default: number of cores]", spec.doc),
        _ if spec.name == "maxMessageSize" => format!("{} [default: {default}, WebSocket 1MiB]", spec.doc),
        _ => format!("{} [default: {default}]", spec.doc),
    };
    let mut arg = Arg::new(flag.clone())
        .long(flag.clone())
        .value_name(slot.placeholder())
        .help(help)
        .help_heading(spec.place.heading())
        .hide(!usual)
        .allow_negative_numbers(true)
        .action(if slot.is_list() { ArgAction::Append } else { ArgAction::Set });
    if !slot.is_flag() {
        return command.arg(arg);
    }
    arg = arg.num_args(0..=1).default_missing_value("true");
    let negated = format!("{NEGATED}{flag}");
    let no = Arg::new(negated.clone()).long(negated).action(ArgAction::SetTrue).conflicts_with(flag).hide(true);
    command.arg(arg).arg(no)
}

/// Says in one line what is wrong with a command line where clap knows only that a flag is unknown.
pub fn explain(error: &clap::Error) -> Option<OptionError> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = flag.strip_prefix("--")?;
    let Resolved::Unknown { nearest } = Names::new().flag(name) else { return None };
    Some(OptionError::Unknown {
        name: flag.clone(),
        origin: Origin::Flag(flag.clone()),
        nearest: format!("--{nearest}"),
    })
}
