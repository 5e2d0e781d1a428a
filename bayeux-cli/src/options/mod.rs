//! Options: one table, three sources.
//!
//! A value may come from a flag (`--max-interval 10s`), from the environment (`BAYEUX_MAX_INTERVAL=10s`), or from a
//! TOML file (`maxInterval = "10s"`), in this order of precedence. Names in the file are CometD's. Most options of a
//! transport may be set for all transports (`timeout`), or for one (`ws.timeout`, `long-polling.timeout`,
//! `long-polling.json.timeout`): the most specific name wins, whichever source it came from (rule O-1).

mod command;
mod names;
mod print;
mod slot;
mod source;
mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bayeux_core::{Activity, ActivityPolicy, Config, ConfigError, TimestampFormat, Transport};
use bayeux_http::{HttpOptions, HttpOptionsError, ListenerOptions};
use bayeux_proto::Limits;
use bayeux_ws::{WsOptions, WsOptionsError};
use clap::ArgMatches;

pub use command::{command, explain};
pub use source::Origin;

use names::Names;
use source::Given;
use table::{Place, Spec, TABLE};

/// Reads a time as all options are written: a number with a unit, or milliseconds. None where it is neither.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    slot::duration(text)
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Addresses to listen on. Default: `127.0.0.1:8080`.
    pub listen: Vec<String>,
    /// Paths of the endpoint. Default: `/cometd`.
    pub paths: Vec<String>,
    /// Further paths of the endpoint, from CometD's `ws.cometdURLMapping` (rule O-33). Default: none.
    pub ws_paths: Vec<String>,
    /// Whether callback-polling is served, as if [`Config::allowed_transports`] named it. Default: false (rule Z-13).
    pub callback_polling: bool,
    /// Whether messages to clients have a timestamp, becoming [`Config::timestamp`]. Default: true.
    pub timestamp: bool,
    /// How it is written. Default: as clients of CometD write it.
    pub timestamp_format: TimestampFormat,
    /// Whether idle sessions are disconnected, becoming [`Config::activity`]. Default: false.
    pub activity: bool,
    /// When they are. Default: after 5 min in which the client sent nothing.
    pub idle: Activity,
    /// Filters of published data. Default: none.
    pub filters: Vec<Filter>,
    /// Whether the chat page and its services are served. Default: true.
    pub demo: bool,
    /// Origins whose pages may use long-polling; becomes [`HttpOptions::allowed_origins`]. Default: none.
    pub allow_origins: Vec<String>,
    /// Origins whose pages may open WebSockets; becomes [`WsOptions::allowed_origins`]. Default: none, which is any.
    pub ws_allow_origins: Vec<String>,
    /// Which logs are wanted. Default: `info`.
    pub log_level: String,
    /// The shape of the logs. Default: text.
    pub log_format: LogFormat,
    /// The engine's options.
    pub config: Config,
    /// Limits of one envelope; its size is each transport's `maxMessageSize`.
    pub limits: Limits,
    /// Options of the listeners.
    pub listener: ListenerOptions,
    /// Options of long-polling and callback-polling.
    pub http: HttpOptions,
    /// Options of WebSocket.
    pub ws: WsOptions,
}

/// A ready-made filter of the data that is published on some channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The channel, or the pattern for several.
    pub channel: String,
    /// What becomes of their data.
    pub preset: FilterPreset,
}

/// The filters that can be named on the command line (rule A-71).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterPreset {
    /// [`NoMarkup`](bayeux_http::filter::NoMarkup)
    NoMarkup,
    /// [`NoScripts`](bayeux_http::filter::NoScripts)
    NoScripts,
}

impl Filter {
    fn parse(text: &str) -> Option<Self> {
        let (channel, preset) = text.rsplit_once('=')?;
        let preset = match preset {
            "no-markup" => FilterPreset::NoMarkup,
            "no-scripts" => FilterPreset::NoScripts,
            _ => return None,
        };
        let pattern = bayeux_proto::ChannelPattern::parse(&channel.into(), &bayeux_proto::ChannelLimits::default());
        Some(Self { channel: pattern.ok()?.as_str().to_owned(), preset })
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let preset = match self.preset {
            FilterPreset::NoMarkup => "no-markup",
            FilterPreset::NoScripts => "no-scripts",
        };
        write!(f, "{}={preset}", self.channel)
    }
}

/// The shape of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line to read.
    Text,
    /// A JSON object a line.
    Json,
}

impl Default for Settings {
    /// As many shards as the machine has cores, and the extensions that CometD's own servers are usually given; all else
    /// as in CometD or as said at each field.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let mut config = Config::default();
        config.acknowledge = true;
        config.timesync = true;
        config.timestamp = Some(TimestampFormat::HttpDate);
        config.binary = true;
        config.shards = u16::try_from(cores).unwrap_or(u16::MAX).min(bayeux_core::ShardId::COUNT_MAX);
        Self {
            listen: vec!["127.0.0.1:8080".into()],
            paths: vec!["/cometd".into()],
            ws_paths: Vec::new(),
            callback_polling: false,
            timestamp: true,
            timestamp_format: TimestampFormat::HttpDate,
            activity: false,
            idle: Activity { max_inactivity: Duration::from_secs(300), policy: ActivityPolicy::Client },
            filters: Vec::new(),
            demo: true,
            allow_origins: Vec::new(),
            ws_allow_origins: Vec::new(),
            log_level: "info".into(),
            log_format: LogFormat::Text,
            config,
            limits: Limits::default(),
            listener: ListenerOptions::default(),
            http: HttpOptions::default(),
            ws: WsOptions::default(),
        }
    }
}

/// Why options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// No option has this name.
    #[error("unknown option {name} ({origin}); the nearest known one is {nearest}")]
    Unknown {
        /// The name as it was given.
        name: String,
        /// Where.
        origin: Origin,
        /// What may have been meant, in the spelling of that source.
        nearest: String,
    },
    /// The option does not accept this value.
    #[error("option {name} ({origin}) is {value:?}, but accepts {accepted}")]
    Value {
        /// The option's full name.
        name: String,
        /// Where.
        origin: Origin,
        /// The value as it was given.
        value: String,
        /// What would do.
        accepted: String,
    },
    /// A value in the file is of a kind that no option has.
    #[error("option {name} ({origin}) has a value that is no text, number, boolean or list of those")]
    Shape {
        /// The key.
        name: String,
        /// Where.
        origin: Origin,
    },
    /// The file sets an option twice, in different spellings.
    #[error("option {name} ({origin}) is already set at {earlier}")]
    Twice {
        /// The option's full name.
        name: String,
        /// Where.
        origin: Origin,
        /// Where before.
        earlier: Origin,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {message}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Which line.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// Options contradict each other.
    #[error("options disagree: {0}")]
    Config(ConfigError),
    /// An option of long-polling is wrong.
    #[error(transparent)]
    Http(#[from] HttpOptionsError),
    /// An option of WebSocket is wrong.
    #[error(transparent)]
    Ws(#[from] WsOptionsError),
    /// A WebSocket would be closed while a connect is held (rule TW-6).
    #[error("ws.idleTimeout ({idle:?}, {idle_origin}) must exceed timeout ({timeout:?}, {timeout_origin})")]
    IdleTimeout {
        /// The one.
        idle: Duration,
        /// Where it was set.
        idle_origin: Origin,
        /// The other.
        timeout: Duration,
        /// Where it was set.
        timeout_origin: Origin,
    },
}

/// Settings, and how they came to be.
#[derive(Debug)]
pub struct Loaded {
    /// The values in force.
    pub settings: Settings,
    /// What should be said to whoever set them: old names, values without effect.
    pub warnings: Vec<String>,
    given: Vec<Given>,
}

/// Reads the options of `serve`: `matches` come from [`command`], `variables` are the environment's.
///
/// # Errors
/// [`OptionError`], naming the option and where it was set.
pub fn load(
    matches: &ArgMatches,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, OptionError> {
    let names = Names::new();
    let mut warnings = Vec::new();
    let variables: Vec<(OsString, OsString)> = variables.collect();
    let file = matches.get_one::<PathBuf>("config").cloned().or_else(|| {
        let variable = variables.iter().find(|(name, _)| name == source::CONFIG_VARIABLE);
        variable.map(|(_, path)| PathBuf::from(path))
    });
    // From the weakest to the strongest: what comes later overwrites.
    let mut given = match file {
        Some(path) => source::from_file(&path, &names, &mut warnings)?,
        None => Vec::new(),
    };
    given.extend(source::from_environment(variables.into_iter(), &names, &mut warnings)?);
    given.extend(source::from_flags(matches, &names, &mut warnings)?);
    let mut loaded = Loaded { settings: Settings::default(), warnings, given };
    loaded.apply()?;
    loaded.check()?;
    Ok(loaded)
}

impl Loaded {
    fn apply(&mut self) -> Result<(), OptionError> {
        for spec in TABLE {
            for prefix in spec.place.prefixes() {
                let name = format!("{prefix}{}", spec.name);
                for given in self.given.iter().filter(|given| given.name == name) {
                    set(&mut self.settings, spec, prefix, given)?;
                }
            }
        }
        for given in &self.given {
            if given.name == "logLevel" && crate::log::is_numeric(&given.text) {
                self.warnings.push(format!("logLevel ({}) is an old number: use a word", given.origin));
            }
        }
        Ok(())
    }

    /// Checks what no single option can know.
    fn check(&mut self) -> Result<(), OptionError> {
        let config = &mut self.settings.config;
        config.channels.validate_characters = config.validate_message_fields;
        // Callback-polling has no other way to deliver (rule O-16).
        config.callback_polling.meta_connect_deliver_only = true;
        config.timestamp = self.settings.timestamp.then_some(self.settings.timestamp_format);
        config.activity = self.settings.activity.then_some(self.settings.idle);
        if self.settings.callback_polling && !config.allowed_transports.contains(&Transport::CallbackPolling) {
            config.allowed_transports.push(Transport::CallbackPolling);
        }
        config.validate().map_err(OptionError::Config)?;
        let timeout = config.websocket.timeout;
        let has_websocket = config.allowed_transports.contains(&Transport::WebSocket);
        let settings = &mut self.settings;
        settings.http.allowed_origins = bayeux_http::AllowedOrigins::from_list(settings.allow_origins.clone());
        settings.http.validate()?;
        settings.ws.allowed_origins = bayeux_ws::AllowedOrigins::from_list(settings.ws_allow_origins.clone());
        settings.ws.validate()?;
        let idle = settings.ws.idle_timeout;
        if idle <= timeout && has_websocket {
            return Err(OptionError::IdleTimeout {
                idle,
                idle_origin: self.origin("idleTimeout", &["", "ws."]),
                timeout,
                timeout_origin: self.origin("timeout", &["", "ws."]),
            });
        }
        Ok(())
    }

    /// Who set the option that is named `name` behind the last of `prefixes` under which it was set.
    fn origin(&self, name: &str, prefixes: &[&str]) -> Origin {
        let mut origin = Origin::Default;
        for prefix in prefixes {
            let full = format!("{prefix}{name}");
            if let Some(given) = self.given.iter().rfind(|given| given.name == full) {
                origin = given.origin.clone();
            }
        }
        origin
    }
}

/// Puts one value where it belongs.
fn set(settings: &mut Settings, spec: &Spec, prefix: &str, given: &Given) -> Result<(), OptionError> {
    let refused = |accepted: String| OptionError::Value {
        name: given.name.clone(),
        origin: given.origin.clone(),
        value: given.text.clone(),
        accepted,
    };
    match spec.place {
        Place::Process(slot)
        | Place::Server(slot)
        | Place::Http(slot)
        | Place::Jsonp(slot)
        | Place::Ws(slot)
        | Place::WsOnly(slot) => {
            let mut slot = slot(settings);
            slot.parse(&given.text).map_err(|_| refused(slot.accepted()))
        }
        Place::Transport(slot) => {
            let config = &mut settings.config;
            let reached = match prefix {
                "ws." => vec![&mut config.websocket],
                "long-polling." => vec![&mut config.long_polling, &mut config.callback_polling],
                "long-polling.json." => vec![&mut config.long_polling],
                "long-polling.jsonp." => vec![&mut config.callback_polling],
                _ => vec![&mut config.websocket, &mut config.long_polling, &mut config.callback_polling],
            };
            for options in reached {
                let mut slot = slot(options);
                slot.parse(&given.text).map_err(|_| refused(slot.accepted()))?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
