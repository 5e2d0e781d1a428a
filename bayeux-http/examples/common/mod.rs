//! What every example needs and none is about: serving long-polling at `http://127.0.0.1:8080/cometd`.

use std::error::Error;

use bayeux_http::{Endpoint, HttpOptions, Listener, LongPolling, Server};

/// Serves until the process ends.
pub(crate) async fn serve(server: Server) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::new(server.clone()).with(LongPolling::new(HttpOptions::default())?).at("/cometd");
    let listener = Listener::bind("127.0.0.1:8080").await?;
    eprintln!("listening on http://{}/cometd", listener.local_addr()?);
    listener.serve(server, endpoint, std::future::pending()).await;
    Ok(())
}
