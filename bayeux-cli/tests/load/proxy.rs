//! A network between generator and server that does harm, or TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What happens to the deliveries on their way to the client, counted from 1 over all connections.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Harm {
    /// That one never arrives.
    Drop(u64),
    /// That one arrives twice.
    Double(u64),
    /// That one arrives behind the next one of its connection.
    Swap(u64),
    /// The connection breaks at that one.
    Cut(u64),
    /// That one, and all behind it, wait so long.
    Stall(u64, Duration),
}

/// Starts a proxy for WebSocket in front of `server`; yields its address. It ends with the process.
pub(crate) fn websocket(server: SocketAddr, harm: Harm) -> SocketAddr {
    let deliveries = Arc::new(AtomicU64::new(0));
    listen(move |client| {
        let upstream = TcpStream::connect(server)?;
        let (mut to_server, mut from_client) = (upstream.try_clone()?, client.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(std::net::Shutdown::Write);
        });
        let deliveries = deliveries.clone();
        let result = forward(upstream, &client, harm, &deliveries);
        let _ = client.shutdown(std::net::Shutdown::Both);
        result
    })
}

/// Copies the answer to the upgrade, then frame by frame.
fn forward(mut server: TcpStream, mut client: &TcpStream, harm: Harm, deliveries: &AtomicU64) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        server.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    client.write_all(&head)?;
    let mut held_back = Vec::new();
    loop {
        let frame = read_frame(&mut server)?;
        let marked = frame.windows(12).any(|bytes| bytes == b"bayeux-load-");
        let number = if marked { deliveries.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        match harm {
            Harm::Drop(which) if which == number => continue,
            Harm::Double(which) if which == number => client.write_all(&frame)?,
            Harm::Swap(which) if which == number => {
                held_back = frame;
                continue;
            }
            Harm::Cut(which) if which == number => return Ok(()),
            Harm::Stall(which, pause) if which == number => thread::sleep(pause),
            Harm::Drop(_) | Harm::Double(_) | Harm::Swap(_) | Harm::Cut(_) | Harm::Stall(..) => {}
        }
        client.write_all(&frame)?;
        if marked {
            client.write_all(&std::mem::take(&mut held_back))?;
        }
    }
}

/// A whole frame of a server, header included.
fn read_frame(server: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 2];
    server.read_exact(&mut frame)?;
    let extended = match frame[1] {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    frame.resize(2 + extended, 0);
    server.read_exact(&mut frame[2..])?;
    let length = if extended == 0 {
        usize::from(frame[1])
    } else {
        frame[2..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    let header = frame.len();
    frame.resize(header + length, 0);
    server.read_exact(&mut frame[header..])?;
    Ok(frame)
}

/// Starts a proxy for HTTP that sends each response in chunks, and ends the connection with it; yields its address.
pub(crate) fn one_response_per_connection(server: SocketAddr) -> SocketAddr {
    listen(move |mut client| {
        let mut upstream = TcpStream::connect(server)?;
        let (head, body) = read_message(&mut client)?;
        upstream.write_all(&[head.as_bytes(), &body].concat())?;
        let (head, body) = read_message(&mut upstream)?;
        let kept = head.trim_end().lines().filter(|line| !line.to_lowercase().starts_with("content-length:"));
        let mut response = kept.collect::<Vec<_>>().join("\r\n");
        response.push_str("\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
        for chunk in body.chunks(100) {
            response.push_str(&format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
        }
        client.write_all(response.as_bytes())?;
        client.write_all(b"0\r\n\r\n")
    })
}

/// A request or response with the length of its body in its head.
fn read_message(from: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body)?;
    Ok((head, body))
}

/// Starts a proxy that takes TLS off, with the certificate in `tests/tls`; yields its address.
pub(crate) fn tls(server: SocketAddr) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(include_bytes!("../tls/cert.pem")).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../tls/key.pem"));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain.expect("a certificate"), key.expect("a key"))
        .expect("they belong together");
    let config = Arc::new(config);
    listen(move |client| {
        let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        let mut upstream = TcpStream::connect(server)?;
        // Each side is asked in turn, since a TLS connection cannot be read and written by two threads.
        client.set_read_timeout(Some(Duration::from_millis(2)))?;
        upstream.set_read_timeout(Some(Duration::from_millis(2)))?;
        let mut client = StreamOwned::new(session, client);
        while pump(&mut client, &mut upstream)? && pump(&mut upstream, &mut client)? {}
        Ok(())
    })
}

/// Copies what there is; whether there may be more.
fn pump(from: &mut impl Read, to: &mut impl Write) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    match from.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(count) => {
            to.write_all(&buffer[..count])?;
            to.flush()?;
            Ok(true)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(true),
        Err(error) => Err(error),
    }
}

fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let serve = serve.clone();
            // A connection that fails is what the test is about.
            thread::spawn(move || serve(client));
        }
    });
    address
}
