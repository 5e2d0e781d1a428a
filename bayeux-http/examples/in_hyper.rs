//! Mounted in a bare hyper server, beside the application's own answers.
//!
//! ```text
//! cargo run -p bayeux-http --example in_hyper
//! curl http://127.0.0.1:8080/
//! ```

use std::convert::Infallible;
use std::error::Error;

use bayeux_http::{Config, Endpoint, HttpOptions, LongPolling, ResponseBody, Server};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
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
        let (stream, _) = listener.accept().await?;
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(endpoint.clone(), request));
            if let Err(error) = Builder::new().serve_connection(TokioIo::new(stream), service).await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
}
