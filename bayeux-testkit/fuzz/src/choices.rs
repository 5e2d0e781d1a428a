//! Bytes as choices.

/// Reads choices off the front of an input.
///
/// Every choice takes the bytes next in line, and as few as it can: what a mutation changes stays local, and an input
/// that is cut off makes the same choices up to there. At the end every choice is the first one, so generators put what
/// is plain first. (The `arbitrary` crate takes lengths from the end, so that appending a byte changes everything.)
#[derive(Debug, Clone)]
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// The choices that `bytes` make.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether no byte is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((&first, rest)) => {
                self.rest = rest;
                first
            }
            None => 0,
        }
    }

    /// Two bytes, the first the higher one.
    pub fn pair(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    /// A number below `bound`, which is at most 256; 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.clamp(1, 256)
    }

    /// True for `of_256` of the 256 values that a byte can have, the highest.
    pub fn rarely(&mut self, of_256: u8) -> bool {
        self.byte() > u8::MAX - of_256
    }

    /// One of `choices`, of which there is at least one.
    pub fn pick<'c, T: ?Sized>(&mut self, choices: &[&'c T]) -> &'c T {
        choices[self.below(choices.len())]
    }

    /// Up to `most` bytes, as many as the next byte says.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let count = usize::from(self.byte()).min(most).min(self.rest.len());
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_come_from_the_front_and_end_with_the_first() {
        let mut choices = Choices::new(&[5, 2, b'a', b'b', 255, 9]);
        assert_eq!(choices.below(3), 2);
        assert_eq!(choices.bytes(10), b"ab");
        assert!(choices.rarely(1));
        assert_eq!(choices.clone().pair(), 9 << 8);
        assert_eq!(choices.rest(), [9]);
        assert!(choices.is_empty());
        assert_eq!((choices.byte(), choices.pick(&["first", "second"])), (0, "first"));
        assert!(!choices.rarely(255));
        assert_eq!(choices.bytes(10), b"");
    }
}
