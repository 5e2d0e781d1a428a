//! A non-blocking connection, with or without TLS.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, Type};

use super::target::Target;

/// A connection to the target.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Bare TCP.
    Plain(TcpStream),
    /// TLS over it; boxed, because its state is a kilobyte and more.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    /// Begins to connect, and registers with the poll under `token`; the first writable event tells how it went.
    ///
    /// # Errors
    /// Those of the system; no more descriptors or ports, above all.
    pub(crate) fn open(target: &Target, source: Option<IpAddr>, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut stream = match source {
            None => TcpStream::connect(target.address)?,
            Some(source) => connect_from(source, target.address)?,
        };
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let Some(tls) = &target.tls else { return Ok(Self::Plain(stream)) };
        let session = ClientConnection::new(tls.config.clone(), tls.name.clone()).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    /// Whether the connection stands; an error if it cannot be made.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        let stream = self.stream();
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => {
                stream.set_nodelay(true)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there. `WouldBlock` if nothing is, 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        again(|| match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        })
    }

    /// Whether a read that did not fill the buffer has emptied the socket, so that the poll tells of anything new.
    pub(crate) fn short_read_is_all(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Writes what fits.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        again(|| match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        })
    }

    /// Goes on writing what TLS has taken and the system has not.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        again(|| match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        })
    }

    fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

/// Repeats what a signal interrupted: the poll tells only once that there is something to do.
fn again<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn connect_from(source: IpAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    match socket.connect(&target.into()) {
        Err(error) if !is_in_progress(&error) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

fn is_in_progress(error: &io::Error) -> bool {
    // EINPROGRESS has no kind of its own in stable Rust; Linux and the BSDs number it differently.
    error.kind() == io::ErrorKind::WouldBlock || matches!(error.raw_os_error(), Some(115 | 36 | 10_035))
}
