//! Connections and their clients, over sockets.

use http::HeaderMap;
use http::request::Parts;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::endpoint::TransportService;
use crate::link::Wrote;
use crate::server::Server;
use crate::{Config, Transport};

/// Whether requests go to an endpoint straight, and a [`Responder`] answers.
const BOTH: [bool; 2] = [false, true];

/// When [`Late`] answers.
const DELAY: Duration = Duration::from_millis(20);

/// Answers late, and wants to be parked meanwhile. Says how long the request's body was.
#[derive(Clone)]
struct Late;

impl Service<Request<RequestBody>> for Late {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let parking = request.extensions().get::<Parking>().cloned();
        let peer = request.extensions().get::<PeerAddr>().copied();
        Box::pin(async move {
            let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            parking.inspect(Parking::park);
            assert!(peer.is_some(), "every request says whose it is");
            tokio::time::sleep(DELAY).await;
            Ok(Response::new(Full::from(format!("late{}", body.len()))))
        })
    }
}

impl TransportService for Late {
    fn transport(&self) -> Transport {
        Transport::LongPolling
    }

    fn accepts(&self, _: &Parts) -> bool {
        true
    }

    fn serve(&self, _: &Server, request: Request<RequestBody>) -> ServiceFuture {
        let late = self.clone().call(request);
        Box::pin(async {
            let Ok(response) = late.await;
            let body = response.into_body().collect().await.unwrap().to_bytes();
            Response::new(ResponseBody::new(body))
        })
    }

    fn post(&self, _: &Server, post: Post<'_>) -> ServiceFuture {
        let Post { head, body, responder } = post;
        assert!(head.into_parts().extensions.get::<PeerAddr>().is_some(), "every request says whose it is");
        let body = format!("late{}", body.len());
        Box::pin(async {
            // Not by this task, as in earnest: it hears of the response only where something is left to be done.
            let (left, hears) = oneshot::channel();
            tokio::spawn(async move {
                tokio::time::sleep(DELAY).await;
                match responder.respond(&RenderedHeaders::new(&HeaderMap::new()), body.as_bytes()) {
                    Wrote::All => std::future::pending().await,
                    Wrote::Part => left.send(()),
                }
            });
            let _ = hears.await;
            Response::new(ResponseBody::new("not this"))
        })
    }
}

/// A service with nothing that requests go to straight.
fn service() -> Site<Late> {
    Site { service: Late, endpoints: Arc::from([]) }
}

/// An endpoint, by itself.
fn endpoint() -> Site<Endpoint> {
    let server = Server::builder(Config::default()).build().unwrap();
    let endpoint = Endpoint::new(server).with(Late);
    Site { service: endpoint.clone(), endpoints: Arc::from([endpoint]) }
}

/// A connection that is served, and its client.
struct Stage {
    client: TcpStream,
    stop: watch::Sender<bool>,
    read: Vec<u8>,
}

impl Stage {
    async fn new(straight: bool) -> Self {
        if straight { Self::with(endpoint()).await } else { Self::with(service()).await }
    }

    async fn with<S: Serve + Sync>(service: S) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let (stop, stopping) = watch::channel(false);
        let mut hyper = Builder::new();
        hyper.timer(hyper_util::rt::TokioTimer::new());
        let http = Http1 { hyper, header_read_timeout: Duration::from_secs(1) };
        let (input, line) = Line::new(stream, stopping);
        let connection = Connection { input, line, ahead: Bytes::new(), service, peer: PeerAddr(peer) };
        tokio::spawn(async move { connection.serve(&http).await });
        Self { client, stop, read: Vec::new() }
    }

    async fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// What is read until there are that many responses.
    async fn responses(&mut self, count: usize) -> String {
        while self.read.windows(4).filter(|window| window == b"late").count() < count {
            let read = self.client.read_buf(&mut self.read).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&self.read));
        }
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    /// What is read to the end.
    async fn rest(mut self) -> String {
        self.client.read_to_end(&mut self.read).await.unwrap();
        String::from_utf8(self.read).unwrap()
    }
}

const PLAIN: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n[]";

/// Connections are many, and nearly all of them wait.
#[tokio::test]
async fn connections_are_small() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let (_stop, stopping) = watch::channel(false);
    let http = Http1 { hyper: Builder::new(), header_read_timeout: Duration::from_secs(1) };
    let (input, line) = Line::new(stream, stopping);
    let peer = PeerAddr(peer);
    let service = Site { service: Late, endpoints: endpoint().endpoints };
    let connection = Connection { input, line, ahead: Bytes::new(), service, peer };
    let size = size_of_val(&connection.serve(&http));
    assert!(size <= 650, "{size} bytes, beside what a held exchange takes");
}

/// Whoever serves it, a response looks the same.
#[tokio::test]
async fn requests_of_any_form_are_answered_alike() {
    for straight in BOTH {
        for (request, body) in [
            (PLAIN, 2),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n", 2),
            ("POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", 0),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
            ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        ] {
            let mut stage = Stage::new(straight).await;
            for _ in 0..2 {
                stage.send(request).await;
                let response = stage.responses(1).await;
                let (head, date) = response.split_once("date: ").unwrap();
                assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", "{request}");
                assert!(date.ends_with(&format!(" GMT\r\n\r\nlate{body}")), "{request}: {date}");
            }
        }
    }
}

#[tokio::test]
async fn requests_that_end_a_connection_do() {
    for straight in BOTH {
        let chunked = "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        for request in [
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
            "POST / HTTP/1.0\r\n\r\n",
            // What two programs may take for different requests (RFC 9112, 6.1).
            &format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{chunked}{PLAIN}"),
        ] {
            let mut stage = Stage::new(straight).await;
            stage.send(request).await;
            let response = stage.rest().await;
            assert!(response.contains(" 200 OK\r\n") && response.ends_with("late0"), "{response}");
        }
    }
}

#[tokio::test]
async fn requests_behind_a_late_response_have_their_turn() {
    for straight in BOTH {
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n";
        let mut stage = Stage::new(straight).await;
        stage.send(&format!("{}{}{PLAIN}", PLAIN.repeat(3), chunked.repeat(2))).await;
        let responses = stage.responses(6).await;
        assert_eq!(responses.matches("HTTP/1.1 200 OK\r\n").count(), 6);
        assert_eq!(responses.matches("late2").count(), 6);
    }
}

#[tokio::test]
async fn request_may_come_in_pieces() {
    for straight in BOTH {
        for pause in [Duration::ZERO, Duration::from_millis(5)] {
            let mut stage = Stage::new(straight).await;
            for byte in PLAIN.chars() {
                stage.send(&byte.to_string()).await;
                tokio::time::sleep(pause).await;
            }
            assert!(stage.responses(1).await.ends_with("late2"));
        }
        // Too long for this server's own patience, but not for hyper's.
        let (first, last) = PLAIN.split_at(40);
        let mut stage = Stage::new(straight).await;
        stage.send(first).await;
        tokio::time::sleep(PART_TIMEOUT * 2).await;
        stage.send(last).await;
        assert!(stage.responses(1).await.ends_with("late2"));
    }
}

#[tokio::test]
async fn client_that_says_nothing_is_let_go() {
    for straight in BOTH {
        let stage = Stage::new(straight).await;
        assert_eq!(stage.rest().await, "");
        let mut stage = Stage::new(straight).await;
        stage.send(PLAIN).await;
        stage.responses(1).await;
        assert_eq!(stage.rest().await, "");
    }
}

#[tokio::test]
async fn server_that_stops_lets_idle_clients_go_and_answers_others() {
    for straight in BOTH {
        let mut stage = Stage::new(straight).await;
        stage.send(PLAIN).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        stage.stop.send(true).unwrap();
        let response = stage.rest().await;
        assert!(response.contains("connection: close\r\n") && response.ends_with("late2"), "{response}");
        let mut stage = Stage::new(straight).await;
        stage.send(PLAIN).await;
        stage.responses(1).await;
        stage.stop.send(true).unwrap();
        assert_eq!(stage.rest().await, "");
    }
}

/// More than a socket takes at once: its task writes the rest, and the connection goes on.
#[tokio::test]
async fn task_finishes_what_a_responder_begins() {
    let (mut client, line) = pair().await;
    let mut headers = HeaderMap::new();
    headers.insert("x-large", http::HeaderValue::from_static("yes"));
    let body = vec![b'z'; 8 * 1024 * 1024];
    let headers = RenderedHeaders::new(&headers);
    let responder = line.begin(false);
    assert_eq!(responder.respond(&headers, &body), Wrote::Part);
    assert_eq!(responder.respond(&headers, b"again"), Wrote::Part, "a second response is none");
    let written = line.take_written().unwrap();
    assert!(!written.last && written.rest.as_ref().unwrap().len() > 1024 * 1024);
    let rest = written.rest.unwrap();
    let finishing = response::write_all(line.socket(), &rest, Duration::from_secs(20));
    let reading = async {
        let mut read = vec![0; body.len()];
        let head = "HTTP/1.1 200 OK\r\nx-large: yes\r\ncontent-length: 8388608\r\ndate: ";
        client.read_exact(&mut read[..head.len()]).await.unwrap();
        assert_eq!(&read[..head.len()], head.as_bytes());
        let mut byte = 0;
        while byte != b'z' {
            byte = client.read_u8().await.unwrap();
        }
        client.read_exact(&mut read[1..]).await.unwrap();
        assert!(read[1..].iter().all(|&byte| byte == b'z'));
    };
    let (finished, ()) = tokio::join!(finishing, reading);
    finished.unwrap();
}

#[tokio::test]
async fn responder_answers_its_own_exchange_only() {
    let (mut client, line) = pair().await;
    let headers = RenderedHeaders::new(&HeaderMap::new());
    let late = line.begin(false);
    let current = line.begin(false);
    assert_eq!(late.respond(&headers, b"late"), Wrote::Part);
    assert!(!line.is_over());
    assert_eq!(current.respond(&headers, b"now"), Wrote::All);
    assert!(line.is_over());
    line.take_written();
    assert_eq!(current.respond(&headers, b"late"), Wrote::Part);
    let unused = line.begin(false);
    assert!(line.take_written().is_none());
    assert_eq!(unused.respond(&headers, b"late"), Wrote::Part, "something else was the response");
    drop(line);
    assert_eq!(current.respond(&headers, b"gone"), Wrote::Part);
    let mut read = String::new();
    client.read_to_string(&mut read).await.unwrap();
    assert!(read.ends_with("now") && read.matches("HTTP/1.1").count() == 1, "{read}");
}

/// A client, and the line of its connection.
async fn pair() -> (TcpStream, Arc<Line>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    socket.writable().await.unwrap();
    let (_, stopping) = watch::channel(false);
    (client, Line::new(socket, stopping).1)
}
