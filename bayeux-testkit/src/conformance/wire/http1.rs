//! HTTP/1.1 as a client that may misbehave: requests are bytes, responses are read with care.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BODY_MAX, HEAD_MAX, Lost, Stream};
use crate::conformance::transcript::Log;

/// A request without the headers that every request has (`Host`, `Content-Length`, cookies).
#[derive(Debug, Clone)]
pub(in crate::conformance) struct Request {
    pub(in crate::conformance) method: &'static str,
    /// Path and query.
    pub(in crate::conformance) target: String,
    pub(in crate::conformance) headers: Vec<(String, String)>,
    pub(in crate::conformance) body: Option<Vec<u8>>,
}

impl Request {
    pub(in crate::conformance) fn new(method: &'static str, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: None }
    }

    pub(in crate::conformance) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(in crate::conformance) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The request's bytes for HTTP/1.1.
    pub(in crate::conformance) fn encode(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(body);
        } else {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }
}

/// A response, whatever its status.
#[derive(Debug, Clone)]
pub(in crate::conformance) struct Response {
    pub(in crate::conformance) status: u16,
    /// Names in lower case, in the order in which they came.
    pub(in crate::conformance) headers: Vec<(String, String)>,
    pub(in crate::conformance) body: Vec<u8>,
    /// The server says that this connection is of no more use.
    pub(in crate::conformance) closes: bool,
}

impl Response {
    /// The first header of that name, which is in lower case.
    pub(in crate::conformance) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All headers of that name, which is in lower case.
    pub(in crate::conformance) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A connection.
pub(in crate::conformance) struct Http1 {
    stream: Stream,
    /// Read, but not yet part of a response.
    buffer: Vec<u8>,
    log: Log,
    link: String,
    /// How many responses it has brought.
    pub(in crate::conformance) served: usize,
}

/// How a body ends.
enum Body {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

struct Head {
    length: usize,
    response: Response,
    body: Body,
}

impl Http1 {
    pub(in crate::conformance) fn new(stream: Stream, log: Log) -> Self {
        let link = log.link("http");
        log.note(&link, "opened");
        Self { stream, buffer: Vec::new(), log, link, served: 0 }
    }

    /// Writes bytes as they are.
    pub(in crate::conformance) async fn write(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.log.sent(&self.link, bytes);
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Says that nothing more will be written.
    pub(in crate::conformance) async fn shutdown(&mut self) -> Result<(), Lost> {
        self.log.note(&self.link, "closed for writing");
        Ok(self.stream.shutdown().await?)
    }

    /// Reads the next final response; interim ones are only logged.
    pub(in crate::conformance) async fn response(&mut self) -> Result<Response, Lost> {
        loop {
            let response = self.any_response(false).await?;
            if response.status >= 200 || response.status == 101 {
                return Ok(response);
            }
        }
    }

    /// Reads the response to a `HEAD`, which has no body whatever its headers say.
    pub(in crate::conformance) async fn response_to_head(&mut self) -> Result<Response, Lost> {
        self.any_response(true).await
    }

    /// Reads the next response, interim ones included.
    pub(in crate::conformance) async fn any_response(&mut self, to_head: bool) -> Result<Response, Lost> {
        let head = loop {
            if let Some(head) = parse_head(&self.buffer, to_head)? {
                break head;
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(malformed("its head is too long"));
            }
            if self.fill().await? == 0 {
                return Err(if self.buffer.is_empty() { Lost::Closed } else { malformed("it ends within its head") });
            }
        };
        let text: Vec<u8> = self.buffer.drain(..head.length).collect();
        let mut response = head.response;
        let body = self.body(&head.body).await;
        response.body = match body {
            Ok(body) => body,
            Err(lost) => {
                self.log.received(&self.link, &text);
                return Err(lost);
            }
        };
        self.log.received(&self.link, &[&text[..], &response.body[..]].concat());
        self.served += 1;
        Ok(response)
    }

    async fn body(&mut self, body: &Body) -> Result<Vec<u8>, Lost> {
        match *body {
            Body::None => Ok(Vec::new()),
            Body::Length(length) => {
                while self.buffer.len() < length {
                    self.fill_or(|| malformed("it ends within its body")).await?;
                }
                Ok(self.buffer.drain(..length).collect())
            }
            Body::Chunked => self.chunks().await,
            Body::UntilClose => {
                while self.fill().await? > 0 {}
                Ok(std::mem::take(&mut self.buffer))
            }
        }
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, Lost> {
        let mut body = Vec::new();
        loop {
            let (start, size) = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete((start, size))) => break (start, size),
                    Ok(httparse::Status::Partial) => self.fill_or(|| malformed("it ends within a chunk")).await?,
                    Err(_) => return Err(malformed("a chunk has no size")),
                }
            };
            self.buffer.drain(..start);
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > BODY_MAX || body.len() + size > BODY_MAX {
                return Err(malformed("its body is too long"));
            }
            while self.buffer.len() < size + 2 {
                self.fill_or(|| malformed("it ends within a chunk")).await?;
            }
            body.extend(self.buffer.drain(..size));
            if !self.buffer.starts_with(b"\r\n") {
                // Trailers after the last chunk are allowed, though no Bayeux server has a use for them.
                return Err(malformed("a chunk does not end with its size"));
            }
            self.buffer.drain(..2);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Everything up to the end of the connection, in whatever form.
    pub(in crate::conformance) async fn rest(&mut self) -> Result<Vec<u8>, Lost> {
        loop {
            match self.fill().await {
                Ok(0) => break,
                Ok(_) => {}
                // A reset is an end, too.
                Err(Lost::Broken(_) | Lost::Closed) => break,
                Err(lost) => return Err(lost),
            }
        }
        let rest = std::mem::take(&mut self.buffer);
        self.log.received(&self.link, &rest);
        Ok(rest)
    }

    async fn fill_or(&mut self, error: impl FnOnce() -> Lost) -> Result<(), Lost> {
        if self.fill().await? == 0 { Err(error()) } else { Ok(()) }
    }

    /// Reads what there is; 0 is the end.
    async fn fill(&mut self) -> Result<usize, Lost> {
        if self.buffer.len() > BODY_MAX + HEAD_MAX {
            return Err(malformed("it is too long"));
        }
        let read = self.stream.read_buf(&mut self.buffer).await?;
        if read == 0 {
            self.log.note(&self.link, "closed by the server");
        }
        Ok(read)
    }

    /// The bare connection after an upgrade, with what was read ahead.
    pub(in crate::conformance) fn into_parts(self) -> (Stream, Vec<u8>) {
        (self.stream, self.buffer)
    }
}

fn malformed(what: &str) -> Lost {
    Lost::Malformed { protocol: "HTTP/1.1", what: what.to_owned() }
}

fn parse_head(bytes: &[u8], to_head: bool) -> Result<Option<Head>, Lost> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Response::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(malformed(&error.to_string())),
    };
    let status = parsed.code.unwrap_or_default();
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned()))
        .collect();
    let response = Response { status, headers, body: Vec::new(), closes: false };
    let body = if to_head || status < 200 || status == 204 || status == 304 {
        Body::None
    } else if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        Body::Chunked
    } else if let Some(length) = response.header("content-length") {
        let length = length.parse().ok().filter(|length| *length <= BODY_MAX);
        Body::Length(length.ok_or_else(|| malformed("its Content-Length is not a sensible number"))?)
    } else {
        Body::UntilClose
    };
    let says_close = response.header("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"));
    let closes = says_close || parsed.version == Some(0) || matches!(body, Body::UntilClose);
    Ok(Some(Head { length, response: Response { closes, ..response }, body }))
}
