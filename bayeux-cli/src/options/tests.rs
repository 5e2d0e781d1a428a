use std::fs;
use std::time::Duration;

use bayeux_core::{Overflow, Transport};

use super::*;

/// Loads options from a file's text, variables and flags.
fn load_from(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Loaded, OptionError> {
    // One file per thread of each process: tests run in parallel.
    let name = format!("bayeux-options-{}-{:?}.toml", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, file).expect("a temporary file can be written");
    let mut arguments = vec!["serve".to_owned()];
    if !file.is_empty() {
        arguments.extend(["--config".to_owned(), path.display().to_string()]);
    }
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let loaded = match command().try_get_matches_from(arguments) {
        Ok(matches) => load(&matches, variables.iter().map(|(name, value)| (name.into(), value.into()))),
        Err(error) => Err(explain(&error).unwrap_or_else(|| panic!("{error}"))),
    };
    fs::remove_file(&path).expect("it was written");
    loaded
}

fn settings(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Settings {
    load_from(file, variables, flags).unwrap_or_else(|error| panic!("{error}")).settings
}

fn error(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> String {
    load_from(file, variables, flags).expect_err("a mistake").to_string()
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "timeout = \"1s\"\nmaxInterval = 2000\ninterval = \"3s\"\n";
    let variables = [("BAYEUX_TIMEOUT", "4s"), ("BAYEUX_MAX_INTERVAL", "5000")];
    let settings = settings(file, &variables, &["--timeout", "6s"]);
    assert_eq!(settings.config.websocket.timeout, Duration::from_secs(6));
    assert_eq!(settings.config.long_polling.max_interval, Duration::from_secs(5));
    assert_eq!(settings.config.long_polling.interval, Duration::from_secs(3));
    assert_eq!(settings.config.long_polling.max_lazy_timeout, Duration::from_secs(5));
}

#[test]
fn the_most_specific_prefix_wins() {
    // O-1, in each way to spell it.
    let file =
        "timeout = 1000\n\"long-polling.timeout\" = 2000\n[long-polling.json]\ntimeout = 3000\n[ws]\ntimeout = 4000\n";
    let from_file = settings(file, &[], &[]).config;
    assert_eq!(from_file.websocket.timeout, Duration::from_secs(4));
    assert_eq!(from_file.long_polling.timeout, Duration::from_secs(3));
    assert_eq!(from_file.callback_polling.timeout, Duration::from_secs(2));
    let flags = ["--long-polling-timeout", "8s", "--timeout", "9s"];
    let mixed = settings("", &[("BAYEUX_WS_TIMEOUT", "7s")], &flags).config;
    assert_eq!(mixed.websocket.timeout, Duration::from_secs(7));
    assert_eq!(mixed.long_polling.timeout, Duration::from_secs(8));
}

#[test]
fn strings_and_native_values_are_alike() {
    // O-2.
    for file in
        ["broadcastToPublisher = false\nmaxQueue = -1\n", "broadcastToPublisher = \"false\"\nmaxQueue = \"-1\"\n"]
    {
        let settings = settings(file, &[], &[]);
        assert!(!settings.config.broadcast_to_publisher);
        assert_eq!(settings.config.websocket.max_queue, usize::MAX);
    }
}

#[test]
fn lists_are_texts_arrays_or_repeated_flags() {
    let expected = [Transport::LongPolling, Transport::WebSocket];
    for file in
        ["allowedTransports = \"long-polling, websocket\"", "allowedTransports = [\"long-polling\", \"websocket\"]"]
    {
        assert_eq!(settings(file, &[], &[]).config.allowed_transports, expected);
    }
    let flags = ["--allow-origin", "http://a", "--allow-origin", "http://b", "--path", "/one,/two/*"];
    let settings = settings("", &[("BAYEUX_LISTEN", "127.0.0.1:0,[::1]:0")], &flags);
    let origins = ["http://a".to_owned(), "http://b".to_owned()];
    assert_eq!(settings.http.allowed_origins, bayeux_http::AllowedOrigins::Only(origins.into()));
    assert_eq!(settings.ws.allowed_origins, bayeux_ws::AllowedOrigins::Any);
    assert_eq!(settings.listen, ["127.0.0.1:0", "[::1]:0"]);
    assert_eq!(settings.paths, ["/one", "/two"], "E-161");
}

#[test]
fn yes_and_no_have_short_flags() {
    assert!(!settings("", &[], &["--no-demo"]).demo);
    assert!(!settings("", &[], &["--demo", "false"]).demo);
    assert!(settings("", &[], &["--handshake-reconnect"]).config.websocket.handshake_reconnect);
    assert!(!settings("", &[("BAYEUX_DEMO", "false")], &[]).demo);
}

#[test]
fn unknown_names_are_told_the_nearest_one_and_their_place() {
    let in_file = error("timeout = 1\nmaxIntervall = 3\n", &[], &[]);
    assert!(
        in_file.contains("maxIntervall") && in_file.contains(".toml:2") && in_file.ends_with("maxInterval"),
        "{in_file}"
    );
    let in_table = error("[ws]\nidelTimeout = 3\n", &[], &[]);
    assert!(in_table.contains(".toml:2") && in_table.ends_with("ws.idleTimeout"), "{in_table}");
    let variable = error("", &[("BAYEUX_MAXINTERVAL", "1")], &[]);
    assert!(
        variable.contains("variable BAYEUX_MAXINTERVAL") && variable.ends_with("BAYEUX_MAX_INTERVAL"),
        "{variable}"
    );
    let flag = error("", &[], &["--max-intervall", "1"]);
    assert!(flag.contains("flag --max-intervall") && flag.ends_with("--max-interval"), "{flag}");
}

#[test]
fn bad_values_name_option_value_and_what_is_accepted() {
    let message = error("", &[("BAYEUX_WS_TIMEOUT", "soon")], &[]);
    assert!(
        message.contains("ws.timeout") && message.contains("\"soon\"") && message.contains("ms, s, m, h"),
        "{message}"
    );
    let message = error("timeout = true\n", &[], &[]);
    assert!(message.contains(".toml:1") && message.contains("\"true\""), "{message}");
    let message = error("", &[], &["--duplicate-meta-connect-http-response-code", "200"]);
    assert!(message.contains("400 to 599"), "E-49: {message}");
    let message = error("timeout = 1979-05-27\n", &[], &[]);
    assert!(message.contains("no text, number"), "{message}");
    assert!(error("", &[], &["--shards", "0"]).contains("1 to 1296"));
    assert!(error("", &[], &["--log-level", "loud"]).contains("debug"));
    // A value that a more specific one hides is still looked at.
    assert!(error("timeout = \"x\"\nws.timeout = 1\nlong-polling.timeout = 1\n", &[], &[]).contains("\"x\""));
}

#[test]
fn files_that_cannot_be_used_say_where() {
    let message = error("timeout = 1\nmaxInterval = = 2\n", &[], &[]);
    assert!(message.contains(".toml:2: "), "{message}");
    let message = error("ws.timeout = 1\n\"ws.timeout\" = 2\n", &[], &[]);
    assert!(message.contains("already set"), "{message}");
    let message = error("", &[("BAYEUX_CONFIG", "/nowhere/bayeux.toml")], &[]);
    assert!(message.starts_with("cannot read /nowhere/bayeux.toml: "), "{message}");
}

#[test]
fn old_names_are_accepted_with_a_warning() {
    // O-41.
    let file = "browserId = \"SID\"\nallowMultiSessionsNoBrowser = true\nlogLevel = 2\nws.metaConnectDeliveryOnly = true\n\
                sweepThreads = 3\nws.enableExtension.permessage-deflate = false\n";
    let loaded = load_from(file, &[], &["--executor-max-threads", "9"]).expect("old, but known");
    assert_eq!(loaded.warnings.len(), 7, "{:?}", loaded.warnings);
    assert_eq!(loaded.settings.http.browser_cookie_name, "SID");
    assert!(loaded.settings.config.websocket.meta_connect_deliver_only);
    assert!(!loaded.settings.config.long_polling.meta_connect_deliver_only);
}

#[test]
fn a_websocket_must_outlive_its_connects() {
    // N12, TW-6.
    let message = error("", &[("BAYEUX_TIMEOUT", "60s")], &["--ws-idle-timeout", "20s"]);
    assert!(message.contains("20s, flag --ws-idle-timeout") && message.contains("60s, environment"), "{message}");
    assert!(load_from("", &[], &["--ws-idle-timeout", "-1", "--timeout", "1h"]).is_ok());
    let polling_only = ["--ws-idle-timeout", "1s", "--allowed-transports", "long-polling"];
    assert!(load_from("", &[], &polling_only).is_ok());
}

#[test]
fn callback_polling_is_served_where_it_is_asked_for() {
    // Z-13.
    assert!(!settings("", &[], &[]).config.allowed_transports.contains(&Transport::CallbackPolling));
    let asked = settings("", &[], &["--callback-polling"]).config;
    assert_eq!(
        asked.allowed_transports,
        [Transport::WebSocket, Transport::LongPolling, Transport::CallbackPolling],
        "the last resort"
    );
    assert!(asked.callback_polling.meta_connect_deliver_only, "O-16");
    let named = settings("", &[], &["--callback-polling", "--allowed-transports", "callback-polling"]).config;
    assert_eq!(named.allowed_transports, [Transport::CallbackPolling]);
    let renamed = settings("\"long-polling.jsonp.callbackParameter\" = \"callback\"\n", &[], &[]);
    assert_eq!(renamed.http.callback_parameter, "callback", "O-32");
    assert!(error("", &[], &["--callback-parameter", ""]).contains("callbackParameter"));
}

#[test]
fn a_negative_sweep_period_selects_the_default() {
    // O-7.
    assert_eq!(settings("", &[], &["--sweep-period", "-1"]).config.sweep_period, Duration::from_millis(997));
    assert_eq!(settings("", &[], &["--multi-session-interval", "-1"]).config.multi_session_interval, Duration::ZERO);
}

#[test]
fn what_print_config_prints_can_be_read_back() {
    let flags = [
        "--ws-timeout",
        "10s",
        "--long-polling-jsonp-timeout",
        "5s",
        "--queue-overflow",
        "drop-oldest",
        "--allow-origin",
        "*",
        "--no-demo",
    ];
    let first = load_from("maxQueue = 5\n", &[("BAYEUX_LOG_LEVEL", "info,bayeux_http=debug")], &flags).expect("valid");
    assert_eq!(first.settings.config.long_polling.overflow, Overflow::DropOldest);
    let printed = first.print();
    assert!(printed.contains("ws.timeout = \"10s\""), "{printed}");
    assert!(printed.contains("# flag --ws-timeout") && printed.contains("# default"), "{printed}");
    assert_eq!(settings(&printed, &[], &[]), first.settings, "{printed}");
}

#[test]
fn what_is_set_for_one_polling_transport_is_printed_for_that_one() {
    for file in ["long-polling.json.timeout = 1", "timeout = 1\n\"long-polling.json.timeout\" = 2", "ws.timeout = 1"] {
        let first = load_from(file, &[], &[]).expect("valid");
        let printed = first.print();
        assert_eq!(settings(&printed, &[], &[]), first.settings, "{printed}");
    }
}

#[test]
fn empty_lists_are_printed_where_the_default_is_none() {
    for file in ["listen = []", "listen = \"\""] {
        let first = load_from(file, &[], &[]).expect("valid");
        let printed = first.print();
        assert_eq!(settings(&printed, &[], &[]), first.settings, "{printed}");
    }
}

#[test]
fn text_that_looks_like_a_number_is_printed_as_text() {
    for text in ["+3", "007", "-0"] {
        let first = load_from(&format!("browserCookieName = \"{text}\""), &[], &[]).expect("valid");
        assert_eq!(first.settings.http.browser_cookie_name, text);
        let printed = first.print();
        assert_eq!(settings(&printed, &[], &[]), first.settings, "{printed}");
    }
}

#[test]
fn every_option_accepts_its_own_default_from_every_source() {
    let defaults = load_from("", &[], &[]).expect("defaults");
    for line in defaults.print().lines() {
        let (name, rest) = line.split_once(" = ").expect("a line of TOML");
        let (value, _) = rest.split_once(" #").expect("an origin");
        let value = value.trim().trim_matches('"');
        let flag = format!("--{}", table::kebab(name));
        let variable = table::variable(name);
        assert_eq!(settings("", &[], &[&flag, value]), defaults.settings, "{flag} {value}");
        assert_eq!(settings("", &[(&variable, value)], &[]), defaults.settings, "{variable}={value}");
    }
}

#[test]
fn the_help_names_every_option() {
    let help = command().render_long_help().to_string();
    for spec in TABLE {
        let flag = format!("--{}", table::kebab(&format!("{}{}", spec.place.usual_prefix(), spec.name)));
        assert!(help.contains(&flag), "{flag}");
    }
    assert!(!help.contains("--long-polling-json-timeout"), "prefixed flags would bury the rest");
}
