//! HTTP/2: many requests on one connection.

use bytes::Bytes;
use h2::client::{self, SendRequest};

use super::{BODY_MAX, Lost, Request, Response, Stream};
use crate::conformance::transcript::Log;

/// A connection; clones share it.
#[derive(Clone)]
pub(in crate::conformance) struct Http2 {
    requests: SendRequest<Bytes>,
    log: Log,
    link: String,
    scheme: &'static str,
}

impl Http2 {
    /// Exchanges settings, then runs the connection in the background until its last clone is gone.
    pub(in crate::conformance) async fn new(stream: Stream, secure: bool, log: Log) -> Result<Self, Lost> {
        let link = log.link("h2");
        let (requests, connection) = client::handshake(stream).await.map_err(lost)?;
        log.note(&link, "opened");
        let (ended, end) = (log.clone(), link.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                ended.note(&end, format!("ended: {error}"));
            }
        });
        let requests = requests.ready().await.map_err(lost)?;
        Ok(Self { requests, log, link, scheme: if secure { "https" } else { "http" } })
    }

    /// Sends a request on a stream of its own and reads the whole response. Dropping the future resets the stream.
    pub(in crate::conformance) async fn exchange(&self, authority: &str, request: &Request) -> Result<Response, Lost> {
        let uri = format!("{}://{authority}{}", self.scheme, request.target);
        let mut head = http::Request::builder().method(request.method).uri(uri).version(http::Version::HTTP_2);
        for (name, value) in &request.headers {
            head = head.header(name.to_ascii_lowercase(), value);
        }
        let head = head.body(()).map_err(|error| malformed(error.to_string()))?;
        let mut requests = self.requests.clone().ready().await.map_err(lost)?;
        self.log.sent(&self.link, &request.encode());
        let (response, mut sender) = requests.send_request(head, request.body.is_none()).map_err(lost)?;
        if let Some(body) = &request.body {
            sender.send_data(Bytes::copy_from_slice(body), true).map_err(lost)?;
        }
        let response = response.await.map_err(lost)?;
        let response = self.read(response).await?;
        let head = format!("HTTP/2 {}\n", response.status);
        let headers: String = response.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        self.log.received(&self.link, &[head.as_bytes(), headers.as_bytes(), b"\n", &response.body].concat());
        Ok(response)
    }

    async fn read(&self, response: http::Response<h2::RecvStream>) -> Result<Response, Lost> {
        let (head, mut stream) = response.into_parts();
        let mut body = Vec::new();
        while let Some(data) = stream.data().await {
            let data = data.map_err(lost)?;
            // A stream whose window is not given back would stop.
            stream.flow_control().release_capacity(data.len()).map_err(lost)?;
            body.extend_from_slice(&data);
            if body.len() > BODY_MAX {
                return Err(malformed("its body is too long".to_owned()));
            }
        }
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        Ok(Response { status: head.status.as_u16(), headers, body, closes: false })
    }
}

fn malformed(what: String) -> Lost {
    Lost::Malformed { protocol: "HTTP/2", what }
}

fn lost(error: h2::Error) -> Lost {
    match error.into_io() {
        Some(io) => Lost::from(io),
        None => malformed("the stream or the connection was reset".to_owned()),
    }
}
