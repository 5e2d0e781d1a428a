//! A WebSocket on a socket of its own: whoever has messages for it writes them, without a task being woken; its task
//! reads, and finishes what the socket did not take.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bayeux_server::proto::{Batch, Limits, Outgoing, decode, frames};
use bayeux_server::{DirectWriter, Link, LinkEvent, Time, Wrote};
use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use crate::ending::{CLOSE_GRACE, End, closing, failed, farewell, not_an_envelope, patiently, settled};
use crate::options::WsOptions;

/// What is read of a connection in one go. Each thread has one such buffer, and connections none.
const READ_SIZE: usize = 64 * 1024;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// Envelopes of a connection that are decoded at once.
const INBOX_MAX: usize = 64;

/// The write side of a connection.
#[derive(Debug)]
struct Pipe {
    socket: OwnedWriteHalf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the socket did not take yet. While there is some, nothing else may go before it.
    rest: VecDeque<u8>,
    /// When a turn wrote last, by the server's time.
    wrote: Time,
}

impl Pipe {
    fn new(socket: OwnedWriteHalf) -> Self {
        Self { socket, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in there can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_clear(&self) -> bool {
        self.lock().rest.is_empty()
    }

    /// Writes what the socket takes, and keeps the rest.
    fn put(&self, state: &mut State, bytes: &[u8]) -> Wrote {
        // A socket that failed takes nothing: its task hears why when it tries.
        let written = if state.rest.is_empty() { self.socket.try_write(bytes).unwrap_or(0) } else { 0 };
        state.rest.extend(bytes.get(written..).unwrap_or_default());
        if state.rest.is_empty() { Wrote::All } else { Wrote::Part }
    }

    /// Writes what is left; says whether that was all.
    fn write_rest(&self) -> io::Result<bool> {
        let State { rest, .. } = &mut *self.lock();
        while !rest.is_empty() {
            match self.socket.try_write(rest.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(rest.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        *rest = VecDeque::new();
        Ok(true)
    }

    /// Waits until all is written.
    async fn flush(&self) -> Result<(), Error> {
        while !self.write_rest()? {
            self.socket.writable().await?;
        }
        Ok(())
    }
}

/// What the shard has of a pipe.
struct Turn {
    pipe: Arc<Pipe>,
    messages_per_frame: usize,
}

impl DirectWriter for Turn {
    fn write(&mut self, now: Time, messages: &[Outgoing], scratch: &mut Vec<u8>) -> Wrote {
        for frame in frames(messages, self.messages_per_frame) {
            // A vector takes any frame.
            let _ = Frame::message(frame, OpCode::Data(Data::Text), true).format(scratch);
        }
        let mut state = self.pipe.lock();
        state.wrote = now;
        self.pipe.put(&mut state, scratch)
    }
}

/// What tungstenite sees of a connection while it takes apart what was read: no more than that, and a pipe that takes
/// all its answers.
struct Tap<'a> {
    input: &'a [u8],
    pipe: &'a Pipe,
}

impl Read for Tap<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.input.read(buf) }
    }
}

impl Write for Tap<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pipe.put(&mut self.pipe.lock(), bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A WebSocket and its link.
pub(crate) struct Direct {
    socket: OwnedReadHalf,
    pipe: Arc<Pipe>,
    protocol: Protocol,
    link: Link,
    options: Arc<WsOptions>,
    /// When something was last read, or written by this task.
    active: Instant,
}

/// The reading side: from bytes to envelopes.
struct Protocol {
    context: WebSocketContext,
    config: WebSocketConfig,
    limits: Limits,
    /// Envelopes as they were read. While there are some, nothing is read.
    texts: VecDeque<Bytes>,
    /// The first of them, decoded.
    inbox: VecDeque<Batch>,
    /// What was read behind a ping that has to wait for them.
    behind: Option<Bytes>,
    /// What is to be done once they are processed.
    end: Option<End>,
}

/// What happens next.
enum Next {
    Event(LinkEvent),
    /// Something was read, and is in the inbox.
    Read,
    Silence,
}

impl Direct {
    /// A connection on `socket`, of which `ahead` was read.
    pub(crate) fn new(
        socket: TcpStream,
        ahead: Vec<u8>,
        config: WebSocketConfig,
        mut link: Link,
        limits: Limits,
        options: Arc<WsOptions>,
    ) -> Self {
        let (socket, output) = socket.into_split();
        let pipe = Arc::new(Pipe::new(output));
        let turn = Turn { pipe: Arc::clone(&pipe), messages_per_frame: options.messages_per_frame };
        link.write_directly(Box::new(turn));
        let context = WebSocketContext::from_partially_read(ahead, Role::Server, Some(config));
        let mut protocol = Protocol {
            context,
            config,
            limits,
            texts: VecDeque::new(),
            inbox: VecDeque::new(),
            behind: None,
            end: None,
        };
        protocol.behind = protocol.take_apart(&[], &pipe).map(|_| Bytes::new());
        Self { socket, pipe, protocol, link, options, active: Instant::now() }
    }

    #[allow(clippy::manual_async_fn, reason = "an async function would have room for the connection twice")]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            // Boxed: connections that are open need no room for it.
            match self.converse().await {
                End::Gone => {}
                End::Bidden => Box::pin(self.answer_close()).await,
                End::Close(code, reason) => Box::pin(self.close(code, reason)).await,
            }
        }
    }

    async fn converse(&mut self) -> End {
        let mut silence = Box::pin(tokio::time::sleep(self.options.idle_timeout));
        loop {
            if let Err(end) = self.process().await {
                return end;
            }
            let ended = match self.next(silence.as_mut()).await {
                Next::Read => {
                    self.active = Instant::now();
                    Ok(())
                }
                // What the turn could not write.
                Next::Event(LinkEvent::Write) => {
                    let flushed = self.flush().await;
                    if flushed.is_ok() {
                        self.link.written();
                    }
                    flushed
                }
                Next::Event(LinkEvent::Close(reason)) => Err(closing(reason)),
                // What was kept is processed above.
                Next::Event(LinkEvent::Resume) => Ok(()),
                Next::Silence => self.stay(silence.as_mut()),
            };
            if let Err(end) = ended {
                return end;
            }
        }
    }

    /// Processes what was read, as far as the engine wants it.
    async fn process(&mut self) -> Result<(), End> {
        loop {
            while self.protocol.fill_inbox() {
                self.link.receive_all(&mut self.protocol.inbox).await;
                if !self.protocol.inbox.is_empty() {
                    return Ok(());
                }
            }
            let refused_later = matches!(self.protocol.end, Some(End::Close(..))) || self.protocol.behind.is_some();
            if refused_later && self.link.is_closing() {
                // An envelope was refused as a whole: that is the end, whatever came behind it.
                return Ok(());
            }
            if let Some(end) = self.protocol.end.take() {
                return Err(end);
            }
            let Some(behind) = self.protocol.behind.take() else { break };
            let left = self.protocol.take_apart(&behind, &self.pipe);
            self.protocol.behind = left.map(|left| behind.slice(behind.len() - left..));
        }
        // Nothing more is read before the answers to pings are written: one who pings and does not read would have us keep
        // all of them.
        if self.pipe.is_clear() { Ok(()) } else { self.flush().await }
    }

    async fn next(&mut self, silence: Pin<&mut Sleep>) -> Next {
        let Self { socket, pipe, protocol, link, .. } = self;
        let mut nothing = Vec::new();
        tokio::select! {
            biased;
            event = link.event(&mut nothing) => Next::Event(event),
            () = poll_fn(|cx| protocol.poll_read(cx, socket, pipe)), if protocol.inbox.is_empty() => Next::Read,
            () = silence => Next::Silence,
        }
    }

    /// Writes what is left, as patiently as is good.
    async fn flush(&mut self) -> Result<(), End> {
        let Self { pipe, link, options, active, .. } = self;
        let flushed = patiently(pipe.flush(), link, options).await;
        settled(flushed)?;
        *active = Instant::now();
        Ok(())
    }

    /// Goes on where the silence was too short.
    fn stay(&self, silence: Pin<&mut Sleep>) -> Result<(), End> {
        let wrote = self.link.instant(self.pipe.lock().wrote).unwrap_or(self.active);
        let due = self.active.max(wrote) + self.options.idle_timeout;
        silence.reset(due);
        if due <= Instant::now() { Err(End::Close(CloseCode::Away, "Idle")) } else { Ok(()) }
    }

    /// Answers the client's close, behind what is left to be written.
    async fn answer_close(self) {
        let Self { pipe, mut protocol, mut link, .. } = self;
        link.close();
        // tungstenite has the answer ready; what it says is that the connection is over.
        let _ = protocol.context.flush(&mut Tap { input: &[], pipe: &pipe });
        // A client that is gone needs none.
        let _ = timeout(CLOSE_GRACE, pipe.flush()).await;
    }

    /// Says farewell, behind what is left to be written.
    async fn close(self, code: CloseCode, reason: &'static str) {
        let Self { socket, pipe, protocol, mut link, .. } = self;
        // However long the farewell takes, the session need not wait for it. The link lives until then, since a server
        // that stops waits for it.
        link.close();
        if !matches!(timeout(CLOSE_GRACE, pipe.flush()).await, Ok(Ok(()))) {
            return;
        }
        let Some(stream) = Arc::into_inner(pipe).and_then(|pipe| socket.reunite(pipe.socket).ok()) else { return };
        // A frame that was half read is lost; what is read from here on is only thrown away.
        let stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(protocol.config)).await;
        drop(timeout(CLOSE_GRACE, farewell(stream, code, reason)).await);
    }
}

impl Protocol {
    /// Reads once, and takes apart what was read.
    fn poll_read(&mut self, cx: &mut Context<'_>, socket: &mut OwnedReadHalf, pipe: &Pipe) -> Poll<()> {
        READ.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            match ready!(Pin::new(socket).poll_read(cx, &mut read)) {
                Ok(()) if read.filled().is_empty() => self.end = Some(End::Gone),
                Ok(()) => {
                    let left = self.take_apart(read.filled(), pipe);
                    self.behind = left.map(|left| Bytes::copy_from_slice(&read.filled()[read.filled().len() - left..]));
                }
                Err(error) => self.end = Some(failed(&Error::Io(error))),
            }
            Poll::Ready(())
        })
    }

    /// Takes frames apart until something has to wait for the messages before it: says how many bytes of the input are
    /// left then.
    fn take_apart(&mut self, input: &[u8], pipe: &Pipe) -> Option<usize> {
        let mut tap = Tap { input, pipe };
        while self.end.is_none() {
            match self.context.read(&mut tap) {
                Ok(Message::Text(text)) => self.texts.push_back(text.into()),
                Ok(Message::Binary(_)) => self.end = Some(End::Close(CloseCode::Unsupported, "Text Only")),
                // tungstenite answers it when it is called next: behind the replies to what came before, and not at all
                // behind what is no envelope. Clients find out so how far we are.
                Ok(Message::Ping(_)) if !self.texts.is_empty() => return Some(tap.input.len()),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                // And to this, which is the last frame, behind the replies to what came before.
                Ok(Message::Close(_)) => self.end = Some(End::Bidden),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.end = Some(failed(&error)),
            }
        }
        None
    }

    /// Decodes the next envelopes, as many as one turn takes: decoded they are much larger. Says whether there are any.
    fn fill_inbox(&mut self) -> bool {
        while self.inbox.len() < INBOX_MAX
            && let Some(text) = self.texts.pop_front()
        {
            match decode(text, &self.limits) {
                // Faye's keep-alive (rule DI-F7).
                Ok(batch) if batch.messages.is_empty() => {}
                Ok(batch) => self.inbox.push_back(batch),
                Err(error) => {
                    // Whatever came behind it.
                    self.texts.clear();
                    self.end = Some(not_an_envelope(&error));
                }
            }
        }
        !self.inbox.is_empty()
    }
}
