//! What a browser is to a Bayeux client: connections, kept open, and cookies.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::case::Transport;
use super::env::Env;
use super::outcome::{Outcome, Stop, brief};
use super::transcript::Log;
use super::wire::{Http1, Http2, Lost, Protocol, Request, Response, within};

/// Sends requests over HTTP; clones share connections and cookies.
#[derive(Clone)]
pub(super) struct Agent {
    env: Arc<Env>,
    transport: Transport,
    log: Log,
    idle: Arc<Mutex<Vec<Http1>>>,
    http2: Arc<tokio::sync::Mutex<Option<Http2>>>,
    jar: Arc<Mutex<Vec<(String, String)>>>,
}

/// The function that callback-polling's answers are to call.
pub(super) const CALLBACK_NAME: &str = "_cometd_jsonp_7";

impl Agent {
    pub(super) fn new(env: &Arc<Env>, transport: Transport, log: &Log) -> Self {
        Self {
            env: Arc::clone(env),
            transport,
            log: log.clone(),
            idle: Arc::default(),
            http2: Arc::default(),
            jar: Arc::default(),
        }
    }

    /// Another agent that has the same cookies, now and later, but connections of its own.
    pub(super) fn tab(&self) -> Self {
        Self { idle: Arc::default(), http2: Arc::default(), ..self.clone() }
    }

    pub(super) fn cookies(&self) -> Vec<(String, String)> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_cookies(&self, cookies: Vec<(String, String)>) {
        *self.jar.lock().unwrap_or_else(PoisonError::into_inner) = cookies;
    }

    /// The request that carries an envelope.
    pub(super) fn request(&self, envelope: &[u8]) -> Request {
        if self.transport == Transport::CallbackPolling {
            let message: String = form_urlencoded::byte_serialize(envelope).collect();
            return self.get(&format!("jsonp={CALLBACK_NAME}&message={message}"));
        }
        let request = Request::new("POST", self.env.target.path(""));
        request.header("Content-Type", "application/json;charset=UTF-8").body(envelope)
    }

    /// A GET with parameters.
    pub(super) fn get(&self, parameters: &str) -> Request {
        let path = self.env.target.path("");
        let separator = if path.contains('?') { '&' } else { '?' };
        Request::new("GET", format!("{path}{separator}{parameters}"))
    }

    /// Sends a request, with host, cookies and the user's own headers added, and reads the response. If it is late, or
    /// the future is dropped, the exchange is left to end as the server likes: it may be a held connect, and not every
    /// server survives that the connection of one ends.
    pub(super) async fn send(&self, request: Request, patience: Duration) -> Result<Response, Lost> {
        let (agent, at_most) = (self.clone(), patience + self.env.server.timeout());
        let exchange = tokio::spawn(async move { agent.send_or_cut(request, at_most).await });
        match tokio::time::timeout(patience, exchange).await {
            Ok(ended) => ended.unwrap_or_else(|error| Err(Lost::Broken(error.into()))),
            Err(_) => Err(Lost::Silent(patience)),
        }
    }

    /// As [`send`](Self::send); but if the response is late, or the future is dropped, the connection is cut, or the
    /// stream reset.
    pub(super) async fn send_or_cut(&self, request: Request, patience: Duration) -> Result<Response, Lost> {
        let _unanswered = session_of_connect(&request).map(|id| self.env.unanswered.add(self, id));
        let request = self.complete(request);
        let response = if self.transport == Transport::Http2 {
            let http2 = self.http2().await?;
            within(patience, http2.exchange(&self.env.target.authority(), &request)).await?
        } else {
            self.send_http1(&request, patience).await?
        };
        self.remember(&response);
        Ok(response)
    }

    fn complete(&self, mut request: Request) -> Request {
        if self.transport != Transport::Http2 {
            request.headers.insert(0, ("Host".to_owned(), self.env.target.authority()));
        }
        request.headers.extend(self.env.options.headers.iter().cloned());
        let cookies: Vec<String> = self.cookies().iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header("Cookie", cookies.join("; "));
        }
        request
    }

    async fn send_http1(&self, request: &Request, patience: Duration) -> Result<Response, Lost> {
        let bytes = request.encode();
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.http1().await?,
            };
            let exchange = async {
                connection.write(&bytes).await?;
                connection.response().await
            };
            match within(patience, exchange).await {
                Ok(response) => {
                    if !response.closes {
                        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                    }
                    return Ok(response);
                }
                // A server may close an idle connection at any time, also just now.
                Err(Lost::Closed | Lost::Broken(_)) if connection.served > 0 => {}
                Err(lost) => return Err(lost),
            }
        }
    }

    /// A new connection.
    pub(super) async fn http1(&self) -> Result<Http1, Lost> {
        Ok(Http1::new(self.env.dialer.dial(Protocol::Http1).await?, self.log.clone()))
    }

    async fn http2(&self) -> Result<Http2, Lost> {
        let mut shared = self.http2.lock().await;
        if let Some(http2) = &*shared {
            return Ok(http2.clone());
        }
        let stream = self.env.dialer.dial(Protocol::Http2).await?;
        let connecting = Http2::new(stream, self.env.target.secure, self.log.clone());
        let http2 = within(self.env.options.timeout, connecting).await?;
        Ok(shared.insert(http2).clone())
    }

    /// Drops all connections that are not in use.
    pub(super) async fn hang_up(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.http2.lock().await = None;
    }

    fn remember(&self, response: &Response) {
        let mut jar = self.jar.lock().unwrap_or_else(PoisonError::into_inner);
        for cookie in response.all("set-cookie") {
            let pair = cookie.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=') else { continue };
            jar.retain(|(known, _)| known != name.trim());
            jar.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }

    /// The text of an envelope in a response, out of its callback where it has one.
    pub(super) fn envelope(&self, response: &Response) -> Outcome<String> {
        if response.status != 200 {
            let body = String::from_utf8_lossy(&response.body);
            let message = format!("expected HTTP status 200, got {} with {:?}", response.status, brief(&body));
            return Err(Stop::failed(message));
        }
        let text = String::from_utf8(response.body.clone()).map_err(|_| Stop::failed("the response is not UTF-8"))?;
        if self.transport != Transport::CallbackPolling {
            return Ok(text);
        }
        // Faye's form is well understood, too (rule TJ-4); one case looks at it closely.
        let call = text.trim().trim_start_matches("/**/").trim_end_matches(';');
        let arguments = call.strip_prefix(CALLBACK_NAME).and_then(|rest| rest.strip_prefix('('));
        let arguments = arguments.and_then(|rest| rest.strip_suffix(')'));
        arguments
            .map(str::to_owned)
            .ok_or_else(|| Stop::failed(format!("expected a call of {CALLBACK_NAME}, got {}", brief(&text))))
    }
}

/// The session whose connect a request carries.
fn session_of_connect(request: &Request) -> Option<String> {
    let messages: Vec<Value> = match &request.body {
        Some(body) => serde_json::from_slice(body).ok()?,
        None => {
            let (_, query) = request.target.split_once('?')?;
            let (_, message) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "message")?;
            serde_json::from_str(&message).ok()?
        }
    };
    let connect = messages.iter().find(|message| message["channel"] == "/meta/connect")?;
    connect["clientId"].as_str().map(str::to_owned)
}

/// The connects of a run that have no answer yet: with whom, and of which session.
#[derive(Clone, Default)]
pub(super) struct Unanswered(Arc<Mutex<Connects>>);

#[derive(Default)]
struct Connects {
    count: u64,
    by_number: BTreeMap<u64, (Agent, String)>,
}

impl Unanswered {
    fn lock(&self) -> MutexGuard<'_, Connects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files a connect until what this yields is dropped.
    fn add(&self, agent: &Agent, session: String) -> Filed {
        let mut connects = self.lock();
        connects.count += 1;
        let number = connects.count;
        connects.by_number.insert(number, (agent.clone(), session));
        Filed { among: self.clone(), number }
    }

    /// Disconnects the sessions and gives their connects time to be answered. To leave a server with connections that
    /// end under held connects is more than some survive.
    pub(super) async fn end(&self, patience: Duration) {
        const STEP: Duration = Duration::from_millis(20);
        const STEPS: usize = 25;
        let all: Vec<(Agent, String)> = self.lock().by_number.values().cloned().collect();
        let mut disconnects = JoinSet::new();
        for (agent, session) in all {
            let disconnect = json!([{"channel": "/meta/disconnect", "id": "0", "clientId": session}]).to_string();
            let request = agent.request(disconnect.as_bytes());
            disconnects.spawn(async move { agent.send_or_cut(request, patience).await.is_ok() });
        }
        // Whatever comes of it. A connect is answered with its disconnect, or never.
        disconnects.join_all().await;
        for _ in 0..STEPS {
            if self.lock().by_number.is_empty() {
                break;
            }
            tokio::time::sleep(STEP).await;
        }
    }
}

impl fmt::Debug for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unanswered").field(&self.lock().by_number.len()).finish()
    }
}

/// A connect that is under way.
struct Filed {
    among: Unanswered,
    number: u64,
}

impl Drop for Filed {
    fn drop(&mut self) {
        // Its agent is dropped when the lock is free again: it may be the last to know of what it shares.
        let connect = self.among.lock().by_number.remove(&self.number);
        drop(connect);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connects_are_known_by_their_requests() {
        let post = |body: &str| Request::new("POST", "/cometd").body(body);
        let message: String =
            form_urlencoded::byte_serialize(br#"[{"channel":"/meta/connect","clientId":"a b"}]"#).collect();
        for (request, expected) in [
            (post(r#"[{"channel":"/a"},{"channel":"/meta/connect","clientId":"a b"}]"#), Some("a b")),
            (Request::new("GET", format!("/cometd?x=y&message={message}")), Some("a b")),
            (post(r#"[{"channel":"/meta/subscribe","clientId":"a b"}]"#), None),
            (post(r#"[{"channel":"/meta/connect"}]"#), None),
            (post("[{"), None),
            (Request::new("OPTIONS", "/cometd"), None),
        ] {
            assert_eq!(session_of_connect(&request).as_deref(), expected, "{request:?}");
        }
    }
}
