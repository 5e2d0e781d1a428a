//! One connection that is sent something and then left as it is.

use super::connection::Connection;
use super::server;

/// Sends `bytes` to a server in memory whose messages may have `message_size_max` bytes, as far as it reads them, and
/// calls `look` while the connection is open still, with how many bytes the client itself keeps. The client reads nothing
/// where `reads` is false.
pub fn while_connected(message_size_max: usize, bytes: &[u8], reads: bool, look: impl FnOnce(usize)) {
    server::in_memory_with(message_size_max, |mut network| async {
        let mut connection = Connection::open(&mut network).await;
        connection.read(reads);
        connection.send(&network, bytes, 16 * 1024).await;
        look(connection.kept());
        connection.cut();
        network
    });
}
