//! The binary as users meet it: its ready line, its exit codes, its reaction to signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn bayeux(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bayeux"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"BAYEUX_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server that is killed if the test fails.
struct Serving {
    child: Child,
    address: SocketAddr,
    path: String,
}

impl Serving {
    fn start(arguments: &[&str]) -> Self {
        let mut child =
            bayeux(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat()).spawn().expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let url = line.trim_end().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}"));
        let (address, path) = url.split_once('/').expect("a path");
        let (address, path) = (address.parse().expect("an address"), format!("/{path}"));
        Self { child, address, path }
    }

    fn request(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    fn get(&self, path: &str) -> String {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    #[cfg(unix)]
    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill exists");
        assert!(status.success());
    }

    /// Waits for the end; yields the exit code and what was written to stderr.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut log = String::new();
        self.child.stderr.take().expect("stderr is piped").read_to_string(&mut log).expect("UTF-8");
        (status.code(), log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[cfg(unix)]
fn a_signal_drains_and_ends_with_success() {
    for signal in ["-TERM", "-INT"] {
        let serving = Serving::start(&["--log-level", "warn"]);
        assert_eq!(serving.path, "/cometd");
        assert!(serving.get("/").starts_with("HTTP/1.1 200 "));
        serving.signal(signal);
        let (code, log) = serving.end();
        assert_eq!((code, log.as_str()), (Some(0), ""), "a healthy run is silent at level warn");
    }
}

#[test]
#[cfg(unix)]
fn a_stop_answers_held_connects() {
    let serving = Serving::start(&["--trust-client-session", "--timeout", "1h", "--ws-idle-timeout", "2h"]);
    let post = |body: &str| {
        let length = body.len();
        serving.request(&format!(
            "POST /cometd HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    };
    let handshake = post(r#"[{"channel":"/meta/handshake","supportedConnectionTypes":["long-polling"]}]"#);
    let id = handshake.split("\"clientId\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a session");
    let connect = format!(r#"[{{"channel":"/meta/connect","clientId":"{id}","connectionType":"long-polling"}}]"#);
    // The first is answered at once, the second is held.
    assert!(post(&connect).contains("\"successful\":true"));
    let held = std::thread::scope(|scope| {
        let held = scope.spawn(|| post(&connect));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!held.is_finished());
        serving.signal("-TERM");
        held.join().expect("it is answered")
    });
    assert!(held.starts_with("HTTP/1.1 "), "{held}");
    assert_eq!(serving.end().0, Some(0));
}

#[test]
fn pages_can_be_switched_off_and_paths_chosen() {
    let serving = Serving::start(&["--no-demo", "--path", "/one,/two"]);
    assert_eq!(serving.path, "/one");
    for path in ["/", "/bayeux.js", "/cometd", "/onetwo"] {
        assert!(serving.get(path).starts_with("HTTP/1.1 404 "), "{path}");
    }
    for path in ["/one", "/two/handshake"] {
        // Neither a POST nor an upgrade: no transport (rule T-3).
        assert!(serving.get(path).starts_with("HTTP/1.1 400 "), "{path}");
    }
    let serving = Serving::start(&["--path", "/two"]);
    assert!(serving.get("/").contains(r#"content="/two""#), "the page is told the path");
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    let taken = Serving::start(&[]);
    let address = taken.address.to_string();
    for (arguments, code, expected) in [
        (&["serve", "--listen", &address][..], 1, "in use"),
        (&["serve", "--listen", "nowhere"], 1, "cannot listen on nowhere"),
        (&["serve", "--config", "/nowhere.toml"], 2, "cannot read /nowhere.toml"),
        (&["serve", "--max-intervall", "1"], 2, "--max-interval"),
        (&["serve", "--timeout", "soon"], 2, "\"soon\""),
        (&["serve", "--timeout", "10m"], 2, "ws.idleTimeout"),
    ] {
        let output = bayeux(arguments).output().expect("it starts");
        let complaint = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(code), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(complaint.starts_with("bayeux: ") && complaint.contains(expected), "{complaint}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_options_in_force_can_be_printed() {
    let output = bayeux(&["serve", "--timeout", "5s", "--print-config"]).env("BAYEUX_DEMO", "false").output();
    let output = output.expect("it starts");
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(printed.lines().any(|line| line.starts_with("timeout = \"5s\"") && line.ends_with("# flag --timeout")));
    assert!(printed.lines().any(|line| line.starts_with("demo = false") && line.ends_with("variable BAYEUX_DEMO")));
}

const HELLO: &str = r#"[{"channel":"/meta/handshake","version":"1.0"}]"#;

impl Serving {
    fn post(&self, body: &str) -> String {
        let length = body.len();
        let head = "POST /cometd HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";
        self.request(&format!("{head}Content-Length: {length}\r\n\r\n{body}"))
    }

    fn handshake(&self) -> String {
        let reply = self.post(HELLO);
        let id = reply.split(r#""clientId":""#).nth(1).and_then(|rest| rest.split('"').next());
        id.unwrap_or_else(|| panic!("{reply}")).to_owned()
    }
}

/// At debug level each message in and out is in the log, with its session and channel; a healthy run at warn is silent.
#[cfg(unix)]
#[test]
fn log_level_decides_what_is_logged() {
    for (level, talks) in [("debug", true), ("warn", false)] {
        let serving = Serving::start(&["--log-level", level]);
        let id = serving.handshake();
        serving.signal("-TERM");
        let (code, log) = serving.end();
        assert_eq!(code, Some(0), "{log}");
        if talks {
            for word in ["received", "sent", "/meta/handshake", id.as_str()] {
                assert!(log.contains(word), "{word} is not in {log}");
            }
        } else {
            assert_eq!(log, "");
        }
    }
}

/// A filter is added where the server is configured, and the application knows nothing of it.
#[cfg(unix)]
#[test]
fn filter_is_added_on_the_command_line() {
    let serving =
        Serving::start(&["--trust-client-session", "--filter", "/chat/**=no-markup", "--filter", "/s/*=no-scripts"]);
    let id = serving.handshake();
    let exchange = |channel: &str, fields: &str| {
        serving.post(&format!(r#"[{{"channel":"{channel}","id":"1","clientId":"{id}",{fields}}}]"#))
    };
    exchange("/meta/subscribe", r#""subscription":["/chat/a","/s/a","/other"]"#);
    let data = r#""data":{"text":["<b>hi</b><script>"]}"#;
    for (channel, filtered) in [
        ("/chat/a", "&lt;b&gt;hi&lt;/b&gt;&lt;script&gt;"),
        ("/s/a", "<b>hi</b><span>"),
        ("/other", "<b>hi</b><script>"),
    ] {
        let response = exchange(channel, data);
        assert!(response.contains(&format!(r#""data":{{"text":["{filtered}"]}}"#)), "{response}");
    }
    drop(serving);
    let output = bayeux(&["serve", "--filter", "/chat=nonsense"]).output().expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no-markup") && said.contains("filter"), "{said}");
}
