//! Ids that nobody can guess.

use bayeux_core::IdSource;

use crate::error::BuildError;

/// Draws from the operating system's generator, some at a time: a system call costs more than 16 bytes are worth.
pub(crate) struct RandomIds {
    buffer: [u8; Self::BUFFER],
    used: usize,
}

impl RandomIds {
    /// 16 ids: handshakes come in storms, and unused bytes are all that a larger buffer adds.
    const BUFFER: usize = 256;

    pub(crate) fn new() -> Result<Self, BuildError> {
        let mut ids = Self { buffer: [0; Self::BUFFER], used: 0 };
        getrandom::fill(&mut ids.buffer).map_err(|_| BuildError::NoRandomness)?;
        Ok(ids)
    }
}

impl IdSource for RandomIds {
    fn draw(&mut self) -> u128 {
        if self.used == Self::BUFFER {
            getrandom::fill(&mut self.buffer).expect("random bytes do not run out once there were some");
            self.used = 0;
        }
        let mut bytes = [0; 16];
        let drawn = &mut self.buffer[self.used..self.used + 16];
        bytes.copy_from_slice(drawn);
        // An id that was handed out is not to be found in a memory dump a second time.
        drawn.fill(0);
        self.used += 16;
        u128::from_ne_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_equal_across_refills() {
        let mut ids = RandomIds::new().unwrap();
        let mut drawn: Vec<u128> = (0..100).map(|_| ids.draw()).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 100);
    }
}
