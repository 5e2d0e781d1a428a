//! The shortest server: it listens on a free port and says on which, and any Bayeux client can subscribe and publish.
//!
//! ```text
//! cargo run -p bayeux-http --example minimal
//! ```
use bayeux_http::{Config, Endpoint, HttpOptions, Listener, LongPolling, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder(Config::default()).build()?;
    let endpoint = Endpoint::new(server.clone()).with(LongPolling::new(HttpOptions::default())?);
    let listener = Listener::bind("localhost:0").await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    listener.serve(server, endpoint, std::future::pending()).await;
    Ok(())
}
