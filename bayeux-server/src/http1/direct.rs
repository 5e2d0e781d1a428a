//! Responses that are written by whoever makes them: the turn of a shard, not the connection's task.
//!
//! The task of a connection whose exchange is held waits for two things, the response and the client. Where the turn
//! that makes the response writes it, the task sleeps on until the client sends its next request: one wake-up for each
//! exchange in the place of two.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::response::{self, Framing, RenderedHeaders};
use crate::link::Wrote;

/// The write side of a connection, and what is known of its exchange.
#[derive(Debug)]
pub(crate) struct Line {
    output: OwnedWriteHalf,
    stopping: watch::Receiver<bool>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many exchanges have begun, or ended.
    exchange: u64,
    /// Whether the task is to hear of the response.
    wake: bool,
    /// The response to the last of them, where a [`Responder`] wrote it.
    written: Option<Written>,
}

/// A response that a [`Responder`] wrote, as far as the socket took it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) at: Instant,
    /// Whether no other may follow.
    pub(super) last: bool,
    /// What is left of it, or why the socket took nothing.
    pub(super) rest: io::Result<Vec<u8>>,
    /// Whether nobody has to do anything about it any more.
    over: bool,
}

impl State {
    fn is_over(&self) -> bool {
        self.written.as_ref().is_some_and(|written| written.over)
    }
}

impl Line {
    /// Takes a socket apart.
    pub(crate) fn new(socket: TcpStream, stopping: watch::Receiver<bool>) -> (OwnedReadHalf, Arc<Self>) {
        let (input, output) = socket.into_split();
        (input, Arc::new(Self { output, stopping, state: Mutex::default() }))
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.output.as_ref()
    }

    /// Hears of the listener's stop.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.clone()
    }

    /// Whether the listener stops.
    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Puts the socket together again, once a turn that wrote the last response has let go of it. `None` where `input`
    /// is another's.
    pub(crate) async fn into_socket(mut self: Arc<Self>, input: OwnedReadHalf) -> Option<TcpStream> {
        loop {
            match Arc::try_unwrap(self) {
                Ok(line) => return input.reunite(line.output).ok(),
                Err(held) => self = held,
            }
            tokio::task::yield_now().await;
        }
    }

    /// Begins an exchange. `wake`: see [`Line::wake_task`].
    pub(super) fn begin(self: &Arc<Self>, wake: bool) -> Responder {
        let mut state = self.lock();
        let exchange = state.exchange + 1;
        *state = State { exchange, wake, written: None };
        Responder { line: Arc::downgrade(self), exchange }
    }

    /// Whether the exchange is over, since its [`Responder`] wrote all of the response. Where something is left to be
    /// done, the service's future is to be waited for: it has the session that is being answered.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// Ends the exchange. What its [`Responder`] wrote of the response, if that did; from now on it writes nothing.
    pub(super) fn take_written(&self) -> Option<Written> {
        let mut state = self.lock();
        state.exchange += 1;
        state.written.take()
    }

    /// Has the connection's task woken when the response is written: the client will not do it. Says whether the exchange
    /// is over already.
    pub(super) fn wake_task(&self) -> bool {
        let mut state = self.lock();
        state.wake = true;
        state.is_over()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in there can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the response to an exchange straight to the socket of its connection. It comes with a [`Post`](crate::Post):
/// nothing between the listener and the endpoint could have a say in the response.
///
/// Whatever the service returns as the response after that is dropped.
pub struct Responder {
    line: Weak<Line>,
    exchange: u64,
}

impl Responder {
    /// Writes a response with the status 200, these headers and this body, as far as the socket takes it; the
    /// connection's task sees to the rest, as soon as the service's future is ready. Does not wait.
    pub fn respond(&self, headers: &RenderedHeaders, body: &[u8]) -> Wrote {
        let Some(line) = self.line.upgrade() else { return Wrote::Part };
        let mut state = line.lock();
        if state.exchange != self.exchange || state.written.is_some() {
            return Wrote::Part;
        }
        let last = line.is_stopping();
        let rest = response::with_buffer(|out| {
            response::rendered_head(out, headers, &Framing::Length(body.len() as u64), last);
            out.extend_from_slice(body);
            match line.output.try_write(out) {
                Ok(count) => Ok(out.get(count..).unwrap_or_default().to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(out.clone()),
                Err(error) => Err(error),
            }
        });
        let over = !last && !state.wake && rest.as_ref().is_ok_and(Vec::is_empty);
        state.written = Some(Written { at: Instant::now(), last, rest, over });
        if over { Wrote::All } else { Wrote::Part }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive()
    }
}

pin_project! {
    /// What ends a connection between two exchanges, other than its client: the stop of its listener, and silence.
    ///
    /// It lives as long as the connection, so that an exchange neither enters a list of those who wait nor leaves one.
    pub(super) struct Vigil<W> {
        #[pin]
        stopped: W,
        has_stopped: bool,
        #[pin]
        silence: Sleep,
        patience: Duration,
    }
}

impl<W: Future<Output = ()>> Vigil<W> {
    /// Until `stopped`, or silence for as long as `patience`.
    pub(super) fn new(stopped: W, patience: Duration) -> Self {
        Self { stopped, has_stopped: false, silence: tokio::time::sleep(patience), patience }
    }

    /// Waits for the end of a connection that has been silent since then.
    pub(super) fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>, since: Instant) -> Poll<()> {
        let mut this = self.project();
        *this.has_stopped = *this.has_stopped || this.stopped.poll(cx).is_ready();
        if *this.has_stopped {
            return Poll::Ready(());
        }
        let due = since + *this.patience;
        // It is set for an earlier exchange, and only moved when that time has come.
        loop {
            ready!(this.silence.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            this.silence.as_mut().reset(due);
        }
    }

    /// Has the task woken by the end, or before, while an exchange is under way, which has no end of this kind itself.
    pub(super) fn rouse(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        if !self.has_stopped {
            let _ = self.poll_end(cx, Instant::now());
        }
    }
}
