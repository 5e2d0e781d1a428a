//! Who got what: every member of a room must get every message of the room once, and those of one publisher in order.
//!
//! The messages of a room are numbered as they are published. A member's account is the number up to which it has all,
//! and those ahead of it; between publishers any order is right, so a message may well arrive before a lower number.

/// Over which of a session's connections a delivery came.
///
/// Long-polling has two, and what arrives on them overtakes one another without anybody's fault; the protocol promises
/// order only within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The one of meta connects; on WebSocket the only one.
    Connects,
    /// That of everything else.
    Requests,
}

/// How a delivery stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was owed, and comes in order.
    Good,
    /// It was owed; a later one of its publisher came before it, on another connection of the session.
    Overtaken,
    /// It was owed; a later one of its publisher came before it, on the same connection.
    Reordered,
    /// It came before.
    Doubled,
}

/// What one session got of one room.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Every number below it has arrived, or has been given up.
    next: u32,
    /// What arrived beyond, by number. Almost always empty.
    ahead: Vec<Arrival>,
}

#[derive(Debug, Clone, Copy)]
struct Arrival {
    number: u32,
    publisher: u32,
    way: Way,
}

impl Account {
    /// Enters a delivery.
    pub(crate) fn enter(&mut self, number: u32, publisher: u32, way: Way) -> Verdict {
        if number < self.next {
            return Verdict::Doubled;
        }
        if number == self.next && self.ahead.is_empty() {
            self.next += 1;
            return Verdict::Good;
        }
        let Err(index) = self.ahead.binary_search_by_key(&number, |arrival| arrival.number) else {
            return Verdict::Doubled;
        };
        let mut verdict = Verdict::Good;
        for later in self.ahead[index..].iter().filter(|later| later.publisher == publisher) {
            if later.way == way {
                verdict = Verdict::Reordered;
                break;
            }
            verdict = Verdict::Overtaken;
        }
        self.ahead.insert(index, Arrival { number, publisher, way });
        self.settle();
        verdict
    }

    /// Moves `next` over what has arrived.
    fn settle(&mut self) {
        if self.ahead.len() > AHEAD_MAX
            && let Some(first) = self.ahead.first()
        {
            self.next = first.number;
        }
        let mut expected = self.next;
        let settled = self.ahead.iter().take_while(|arrival| {
            let is_next = arrival.number == expected;
            expected = expected.wrapping_add(u32::from(is_next));
            is_next
        });
        let settled = settled.count();
        self.next = expected;
        self.ahead.drain(..settled);
    }
}

/// With so many messages beyond a missing one, that one is not waited for: it is lost, or its publish was refused.
const AHEAD_MAX: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Doubled, Good, Overtaken, Reordered};
    use Way::{Connects, Requests};

    fn verdicts(arrivals: &[(u32, u32, Way)]) -> Vec<Verdict> {
        let mut account = Account::default();
        arrivals.iter().map(|&(number, publisher, way)| account.enter(number, publisher, way)).collect()
    }

    #[test]
    fn publishers_may_overtake_one_another() {
        let arrivals = [(1, 8, Connects), (0, 7, Connects), (3, 8, Connects), (2, 7, Connects), (4, 7, Connects)];
        assert_eq!(verdicts(&arrivals), [Good; 5]);
    }

    #[test]
    fn a_publisher_may_not_overtake_itself_but_its_connections_may() {
        assert_eq!(verdicts(&[(1, 7, Connects), (2, 8, Connects), (0, 7, Connects)]), [Good, Good, Reordered]);
        assert_eq!(verdicts(&[(1, 7, Connects), (2, 8, Connects), (0, 7, Requests)]), [Good, Good, Overtaken]);
        let both = [(1, 7, Connects), (2, 7, Requests), (0, 7, Requests)];
        assert_eq!(verdicts(&both), [Good, Good, Reordered]);
    }

    #[test]
    fn a_second_copy_is_noticed_before_and_after_a_gap_is_closed() {
        let arrivals = [(0, 7, Connects), (0, 7, Connects), (2, 7, Connects), (2, 7, Connects), (1, 8, Connects)];
        assert_eq!(verdicts(&arrivals), [Good, Doubled, Good, Doubled, Good]);
        let mut account = Account::default();
        for number in [1, 0, 2] {
            assert_eq!(account.enter(number, number, Connects), Good);
        }
        assert!(account.ahead.is_empty());
        for number in 0..3 {
            assert_eq!(account.enter(number, number, Connects), Doubled);
        }
    }

    #[test]
    fn a_message_that_never_comes_does_not_grow_the_account_for_ever() {
        let mut account = Account::default();
        for number in 1..3 * AHEAD_MAX as u32 {
            assert_eq!(account.enter(number, 7, Connects), Good);
        }
        assert!(account.ahead.len() <= AHEAD_MAX);
        assert_eq!(account.enter(0, 7, Connects), Doubled, "given up, and counted as lost elsewhere");
    }
}
