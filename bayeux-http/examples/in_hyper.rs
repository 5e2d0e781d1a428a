//! Mounted in a bare hyper server, beside the application's own answers.
//!
//! ```text
//! cargo run -p bayeux-http --example in_hyper
//! curl http://127.0.0.1:8080/
//! ```
//!
//! The page says where Bayeux is: clients connect to `http://127.0.0.1:8080/cometd`. What
//! [`Listener`](bayeux_http::Listener) does for others is done by hand here.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use bayeux_http::{Config, Endpoint, HttpOptions, LongPolling, PeerAddr, ResponseBody, Server};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

async fn answer(endpoint: Endpoint, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
    if endpoint.takes(request.uri().path()) {
        Ok(endpoint.handle(request).await)
    } else {
        Ok(Response::new(ResponseBody::new("Bayeux is at /cometd\n")))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default()).build()?;
    let endpoint = Endpoint::new(server).with(LongPolling::new(HttpOptions::default())?).at("/cometd");
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // A client that is gone already, or too many that are not: those who are there go on.
            Err(error) => {
                eprintln!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let service = service_fn(move |mut request: Request<Incoming>| {
                // Hooks can ask for it: `Context::peer`.
                request.extensions_mut().insert(PeerAddr(peer));
                answer(endpoint.clone(), request)
            });
            // Without a timer a client may take for ever to send its headers; without upgrades there is no WebSocket.
            let served = Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.with_upgrades().await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
}
