//! The client's end of one connection: bytes out in pieces, bytes in as they come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::http2::PREFACE;
use super::server::{Network, Stream};

/// A connection that is read all the time, unless it was told not to.
pub(super) struct Connection {
    writer: WriteHalf<Box<dyn Stream>>,
    inbox: Arc<Mutex<Vec<u8>>>,
    reading: watch::Sender<bool>,
    reader: JoinHandle<()>,
    /// The first bytes that were sent: what the server takes the connection for.
    opening: Vec<u8>,
    /// Bytes of the inbox in which ids were looked for.
    pub(super) searched: usize,
    /// Whether all that was sent is what a decent client sends, to its end.
    pub(super) is_clean: bool,
    is_shut: bool,
}

impl Connection {
    pub(super) async fn open(network: &mut Network) -> Self {
        let (mut incoming, writer) = tokio::io::split(network.connect().await);
        let inbox = Arc::new(Mutex::new(Vec::new()));
        let (reading, mut may_read) = watch::channel(true);
        let received = Arc::clone(&inbox);
        let reader = tokio::spawn(async move {
            let mut piece = [0; 4096];
            loop {
                if may_read.wait_for(|&may| may).await.is_err() {
                    return;
                }
                match incoming.read(&mut piece).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        received.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..count]);
                    }
                }
            }
        });
        Self { writer, inbox, reading, reader, opening: Vec::new(), searched: 0, is_clean: true, is_shut: false }
    }

    /// Sends bytes, in pieces of that many; 0: in one piece. Others have their turn between the pieces.
    pub(super) async fn send(&mut self, network: &Network, bytes: &[u8], piece: usize) {
        let missing = Self::DECISIVE - self.opening.len();
        self.opening.extend(&bytes[..missing.min(bytes.len())]);
        // However small they are asked to be: not so many that an input takes seconds.
        let piece = if piece == 0 { bytes.len() } else { piece.max(bytes.len() / 40) };
        for piece in bytes.chunks(piece.max(1)) {
            // A server that does not read may have its reasons: it waits for us to read.
            let wait = if network.is_virtual() { Duration::from_secs(2) } else { Duration::from_millis(20) };
            match timeout(wait, self.writer.write_all(piece)).await {
                Ok(Ok(())) => network.settle().await,
                Ok(Err(_)) | Err(_) => {
                    self.is_clean = false;
                    return;
                }
            }
        }
    }

    /// Reads nothing more, or goes on reading.
    pub(super) fn read(&self, on: bool) {
        self.reading.send_replace(on);
    }

    /// Whether what was sent may be taken for HTTP/2, and what came is not HTTP/1.1: some servers decide when they have
    /// seen three bytes, some want the whole preface.
    pub(super) fn is_http2(&self) -> bool {
        PREFACE.starts_with(&self.opening)
            && self.opening.len() == Self::DECISIVE
            && !self.received().starts_with(b"HTTP/")
    }

    const DECISIVE: usize = 3;

    /// Says that no more will be sent.
    pub(super) async fn shut(&mut self) {
        self.is_shut = true;
        let _ = self.writer.shutdown().await;
    }

    /// What came so far.
    pub(super) fn received(&self) -> Vec<u8> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes of memory that what came takes.
    pub(super) fn kept(&self) -> usize {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).capacity()
    }

    /// Whether the server has ended it, or the client has said that it sends no more.
    pub(super) fn is_over(&self) -> bool {
        self.is_shut || self.reader.is_finished()
    }

    /// Says goodbye and waits for the server to end it, too; what came in all.
    pub(super) async fn end(mut self, network: &Network) -> Vec<u8> {
        self.read(true);
        self.shut().await;
        let ended = timeout(network.patience(), &mut self.reader).await;
        ended.expect("the server ends a connection whose client has").expect("the reader does not panic");
        self.received()
    }

    /// Is gone at once.
    pub(super) fn cut(self) {
        self.reader.abort();
    }
}
