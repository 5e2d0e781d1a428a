//! The workload: who is in which room, who publishes, how much and when. Nothing here knows of connections.
//!
//! Everything follows from the options and a seed, so that each thread can work out its own part, and two runs with the
//! same options are the same.

use super::clock::Moment;

/// The workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// CometD's benchmark: every client in some rooms; batches of messages to random rooms, one client after another.
    Benchmark,
    /// One channel with many subscribers, and publishers beside them.
    Fanout,
    /// Sessions in rooms, all of which publish to their own room.
    Rooms,
    /// Sessions with a channel each, which they publish to and are alone to hear.
    Echo,
    /// Sessions that hold a connect, and nothing else.
    Idle,
}

impl Mode {
    /// All, in the order of the help.
    pub(crate) const ALL: [Self; 5] = [Self::Benchmark, Self::Fanout, Self::Rooms, Self::Echo, Self::Idle];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Benchmark => "benchmark",
            Self::Fanout => "fanout",
            Self::Rooms => "rooms",
            Self::Echo => "echo",
            Self::Idle => "idle",
        }
    }
}

/// When batches are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Each publisher has so many batches under way, and sends the next when one has been answered, and has reached
    /// every subscriber.
    Closed {
        /// How many, at least 1.
        window: u32,
    },
    /// A batch every so many nanoseconds, whatever happens.
    Scheduled {
        /// Nanoseconds, at least 1.
        period: u64,
    },
}

/// What the sizes of a workload are.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Which workload.
    pub(crate) mode: Mode,
    /// Sessions; of `fanout`, the subscribers.
    pub(crate) clients: u32,
    /// Publishers of `fanout`.
    pub(crate) publishers: u32,
    /// Channels.
    pub(crate) rooms: u32,
    /// Subscriptions of each session.
    pub(crate) rooms_per_client: u32,
    /// Messages in an envelope.
    pub(crate) batch_size: u32,
    /// Length of the text in each message.
    pub(crate) message_size: usize,
    /// Whether the publisher of a batch is drawn, rather than the next one.
    pub(crate) randomize: bool,
    /// When batches are sent.
    pub(crate) pace: Pace,
    /// Draws what is random.
    pub(crate) seed: u64,
}

/// A workload that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    /// Each session subscribes to a room once.
    #[error("{wanted} rooms per client, but only {rooms} rooms")]
    Rooms {
        /// Subscriptions of each session.
        wanted: u32,
        /// Channels.
        rooms: u32,
    },
    /// The generator remembers each message under way.
    #[error("{0} messages under way of all publishers; at most {SLOTS_MAX}")]
    Window(u64),
}

/// More threads than any machine's generator has use for.
pub(crate) const THREADS_MAX: u32 = 64;

/// Messages under way in a closed loop; a gigabyte's worth of counters.
const SLOTS_MAX: u64 = 1 << 28;

/// A channel of the workload.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// Its name.
    pub(crate) channel: String,
    /// The name as a JSON string, as most servers write it.
    pub(crate) quoted: Vec<u8>,
    /// Its subscribers.
    pub(crate) members: u32,
    /// Threads that have some of them.
    pub(crate) threads: u32,
}

/// A workload, worked out.
#[derive(Debug)]
pub(crate) struct Plan {
    shape: Shape,
    rooms: Vec<Room>,
    /// Rooms of each session, in order.
    memberships: Vec<Vec<u32>>,
    /// Rooms with subscribers.
    inhabited: Vec<u32>,
    threads: u32,
}

impl Plan {
    /// Works out a workload for `threads` threads, at most [`THREADS_MAX`], with channels below `prefix`.
    ///
    /// # Errors
    /// [`PlanError`]
    pub(crate) fn new(shape: Shape, prefix: &str, threads: u32) -> Result<Self, PlanError> {
        if shape.rooms_per_client > shape.rooms {
            return Err(PlanError::Rooms { wanted: shape.rooms_per_client, rooms: shape.rooms });
        }
        if let Pace::Closed { window } = shape.pace {
            let slots = u64::from(window) * u64::from(shape.batch_size);
            let all = slots * u64::from(shape.publishers().max(1));
            if all > SLOTS_MAX {
                return Err(PlanError::Window(all));
            }
        }
        let memberships: Vec<_> = (0..shape.sessions()).map(|session| shape.rooms_of(session)).collect();
        let mut rooms: Vec<_> = (0..shape.rooms).map(|room| Room::new(format!("{prefix}/{room}"))).collect();
        let mut seen = vec![0_u64; rooms.len()];
        for (session, joined) in memberships.iter().enumerate() {
            for room in joined.iter().map(|room| *room as usize) {
                rooms[room].members += 1;
                seen[room] |= 1 << (session % threads as usize);
            }
        }
        for (room, seen) in rooms.iter_mut().zip(seen) {
            room.threads = seen.count_ones();
        }
        let inhabited = (0..shape.rooms).filter(|room| rooms[*room as usize].members > 0).collect();
        Ok(Self { shape, rooms, memberships, inhabited, threads })
    }

    /// The sizes that it was made from.
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its channels.
    pub(crate) fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    /// How many sessions it has.
    pub(crate) fn sessions(&self) -> u32 {
        self.shape.sessions()
    }

    /// The rooms that `session` subscribes to, in order.
    pub(crate) fn rooms_of(&self, session: u32) -> &[u32] {
        &self.memberships[session as usize]
    }

    /// Publishers are the sessions below this.
    pub(crate) fn publishers(&self) -> u32 {
        self.shape.publishers()
    }

    /// Batches that a publisher has under way in a closed loop; 0 with a schedule.
    pub(crate) fn window(&self) -> u32 {
        match self.shape.pace {
            Pace::Closed { window } => window,
            Pace::Scheduled { .. } => 0,
        }
    }

    /// Messages that a publisher has under way in a closed loop; 0 with a schedule.
    pub(crate) fn slots(&self) -> u32 {
        self.window() * self.shape.batch_size
    }

    /// The sessions of a thread, in order.
    pub(crate) fn sessions_of(&self, thread: u32) -> impl Iterator<Item = u32> + use<> {
        (thread..self.sessions()).step_by(self.threads as usize)
    }

    /// The thread of a session.
    pub(crate) fn thread_of(&self, session: u32) -> u32 {
        session % self.threads
    }

    /// Who sends the batch number `batch` of a schedule.
    pub(crate) fn publisher(&self, batch: u64) -> u32 {
        let publishers = u64::from(self.publishers().max(1));
        let drawn = if self.shape.randomize { mix(self.shape.seed, batch) } else { batch };
        (drawn % publishers) as u32
    }

    /// Where `publisher` sends its message number `number`.
    pub(crate) fn room(&self, publisher: u32, number: u64) -> u32 {
        let own = &self.memberships[publisher as usize];
        match self.shape.mode {
            Mode::Rooms | Mode::Echo | Mode::Idle => own[(number % own.len().max(1) as u64) as usize],
            Mode::Benchmark | Mode::Fanout => {
                let drawn = mix(self.shape.seed ^ u64::from(publisher) << 32, number);
                self.inhabited[(drawn % self.inhabited.len() as u64) as usize]
            }
        }
    }

    /// When the batch number `batch` of a schedule that began at `start` is due.
    pub(crate) fn due(&self, start: Moment, batch: u64) -> Moment {
        match self.shape.pace {
            Pace::Scheduled { period } => start.plus(period.saturating_mul(batch)),
            Pace::Closed { .. } => Moment::NEVER,
        }
    }
}

impl Shape {
    fn sessions(&self) -> u32 {
        match self.mode {
            Mode::Fanout => self.clients + self.publishers,
            Mode::Benchmark | Mode::Rooms | Mode::Echo | Mode::Idle => self.clients,
        }
    }

    fn publishers(&self) -> u32 {
        match self.mode {
            Mode::Benchmark | Mode::Rooms | Mode::Echo => self.clients,
            Mode::Fanout => self.publishers,
            Mode::Idle => 0,
        }
    }

    fn rooms_of(&self, session: u32) -> Vec<u32> {
        let mut rooms = Vec::new();
        match self.mode {
            Mode::Fanout if session < self.publishers => {}
            Mode::Benchmark => {
                let mut draw = 0;
                while rooms.len() < self.rooms_per_client as usize {
                    let room = (mix(self.seed ^ u64::from(session) << 20, draw) % u64::from(self.rooms)) as u32;
                    draw += 1;
                    if !rooms.contains(&room) {
                        rooms.push(room);
                    }
                }
            }
            Mode::Fanout | Mode::Rooms | Mode::Echo | Mode::Idle => {
                rooms.extend((0..self.rooms_per_client).map(|index| (session + index) % self.rooms));
            }
        }
        rooms.sort_unstable();
        rooms
    }
}

impl Room {
    fn new(channel: String) -> Self {
        Self { quoted: format!("\"{channel}\"").into_bytes(), channel, members: 0, threads: 0 }
    }
}

/// A number that looks random, the same for the same arguments (SplitMix64).
pub(crate) fn mix(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(mode: Mode) -> Shape {
        Shape {
            mode,
            clients: 40,
            publishers: 3,
            rooms: 10,
            rooms_per_client: 4,
            batch_size: 2,
            message_size: 50,
            randomize: false,
            pace: Pace::Closed { window: 2 },
            seed: 1,
        }
    }

    #[test]
    fn members_of_rooms_and_rooms_of_members_agree() {
        for mode in Mode::ALL {
            let plan = Plan::new(shape(mode), "/load", 3).expect("a plan");
            let mut members = [0; 10];
            let mut threads = vec![std::collections::BTreeSet::new(); 10];
            for thread in 0..3 {
                for session in plan.sessions_of(thread) {
                    assert_eq!(plan.thread_of(session), thread);
                    for room in plan.rooms_of(session) {
                        members[*room as usize] += 1;
                        threads[*room as usize].insert(thread);
                    }
                }
            }
            assert_eq!(members.iter().sum::<u32>(), 160, "{mode:?}");
            for (index, room) in plan.rooms().iter().enumerate() {
                assert_eq!((room.members, room.threads as usize), (members[index], threads[index].len()), "{mode:?}");
                assert_eq!(room.channel, format!("/load/{index}"));
            }
        }
    }

    #[test]
    fn a_fanout_has_publishers_beside_the_subscribers() {
        let plan =
            Plan::new(Shape { rooms: 1, rooms_per_client: 1, ..shape(Mode::Fanout) }, "/load", 2).expect("a plan");
        assert_eq!((plan.sessions(), plan.publishers(), plan.rooms()[0].members), (43, 3, 40));
        assert!(plan.rooms_of(2).is_empty());
        assert_eq!((plan.room(1, 7), plan.slots()), (0, 4));
    }

    #[test]
    fn the_benchmark_draws_rooms_and_the_others_publish_in_their_own() {
        let plan = Plan::new(shape(Mode::Benchmark), "/load", 1).expect("a plan");
        let drawn: std::collections::BTreeSet<_> = (0..100).map(|number| plan.room(3, number)).collect();
        assert!(drawn.len() > 5, "{drawn:?}");
        let plan = Plan::new(shape(Mode::Rooms), "/load", 1).expect("a plan");
        assert!((0..100).all(|number| plan.rooms_of(3).contains(&plan.room(3, number))));
    }

    #[test]
    fn a_schedule_goes_round_or_is_drawn() {
        let round = Plan::new(Shape { pace: Pace::Scheduled { period: 7 }, ..shape(Mode::Rooms) }, "/load", 1);
        let round = round.expect("a plan");
        assert_eq!((0..3).map(|batch| round.publisher(39 + batch)).collect::<Vec<_>>(), [39, 0, 1]);
        assert_eq!(round.due(Moment(100), 5), Moment(135));
        let drawn = Plan::new(Shape { randomize: true, ..shape(Mode::Rooms) }, "/load", 1).expect("a plan");
        assert_ne!((0..40).map(|batch| drawn.publisher(batch)).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let rooms = Plan::new(Shape { rooms_per_client: 11, ..shape(Mode::Rooms) }, "/load", 1);
        assert_eq!(rooms.err(), Some(PlanError::Rooms { wanted: 11, rooms: 10 }));
        let window = Plan::new(Shape { pace: Pace::Closed { window: 4_000_000 }, ..shape(Mode::Rooms) }, "/load", 1);
        assert_eq!(window.err(), Some(PlanError::Window(320_000_000)));
    }
}
