//! What must be true of a server, by a reading of the rules that owes nothing to the engine.
//!
//! The model watches what passes between driver and engine: envelopes received, messages drained, notices, commands,
//! verdicts. From that it knows, for each session and each event, whether the event *must* be delivered, *may* be, or
//! *must not*; what each reply may say; when a held connect has to be answered; when a session may and when it must
//! expire.
//!
//! Where a hook takes its time, or a message between shards, or a write, it cannot be known when exactly something took
//! effect: only that it did between two moments. Every such moment has a number, and what is certain of all of the time
//! between two numbers is demanded, what is possible at any of it is allowed. Where nothing takes time, both are the same.

mod batches;
mod connects;
mod decisions;
mod deliveries;
mod facts;
mod kept;
mod lines;
mod replies;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};

use bayeux_core::{Config, Notice, Overflow, Point, Question, RemovalReason, Time};

use crate::swarm::setup::{Knob, Setup};
use crate::swarm::{KEPT, NARROW};
use crate::world::{Happening, Peer, World};
use lines::Line;
use sessions::Session;

pub(super) use deliveries::{LAZY_SLOW_TIMEOUT, LAZY_SOON_TIMEOUT, Origin};
pub(super) use facts::number_in;

/// What is broken, as a sentence; `Ok` where nothing is.
pub(super) type Verdict = Result<(), String>;

/// A moment: what happened at a higher number happened later.
pub(super) type Moment = u64;

/// How much was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Events that were delivered, each held against what may be.
    pub deliveries: u64,
    /// Events that had to be delivered, and were.
    pub obligations: u64,
    /// Replies.
    pub replies: u64,
    /// Connects that were held.
    pub holds: u64,
    /// Sessions.
    pub sessions: u64,
    /// Sessions that expired.
    pub expired: u64,
}

/// The reference model of a server.
pub(super) struct Model {
    config: Config,
    /// Whether a hook may say no to what the application publishes.
    vetoes: bool,
    /// How many events of [`NARROW`] a queue may hold, where that has a limit.
    narrow: Option<usize>,
    /// Whether an HTTP response may be drained in parts.
    in_parts: bool,
    /// Whether a WebSocket may be.
    socket_in_parts: bool,
    /// More bytes than any event has.
    event_size_max: usize,
    now: Time,
    moment: Moment,
    /// Counts the times that the world came to rest.
    rests: u64,
    lines: BTreeMap<Peer, Line>,
    sessions: BTreeMap<String, Session>,
    events: BTreeMap<u64, deliveries::Event>,
    /// Every channel that somebody has published on, or tried to.
    published_on: BTreeSet<String>,
    /// Events whose fan-out may be under way.
    spreading: BTreeSet<u64>,
    /// What hooks said no to, by the key of [`facts::key_of`].
    denied: BTreeMap<String, Point>,
    /// What hooks decided when its session had ended, by the same key.
    too_late: BTreeSet<String>,
    /// The event that [`KEPT`](crate::swarm::KEPT) certainly keeps.
    kept: Option<u64>,
    /// When an event on that channel last had reached everybody.
    kept_until: Moment,
    /// Events that a hook kept from a session.
    dropped: BTreeSet<(String, u64)>,
    /// Events that a hook let a session have, of those that may be offered again.
    passed: BTreeSet<(String, u64)>,
    /// Whether no hook keeps events back any more.
    drops_are_over: bool,
    /// The last question whose answer is not wanted any more.
    retired: Option<Question>,
    /// Sessions whose end is among what is being observed: it may be told behind what it leaves to be drained.
    ending: BTreeMap<String, RemovalReason>,
    /// Sessions that a hook removed before anybody was told of them.
    stillborn: BTreeSet<String>,
    /// Channels that the application removes, and since when.
    removals: Vec<(String, Moment)>,
    /// Channels that the application has used, and of which the shards may not know yet what is set there.
    unknown: BTreeSet<String>,
    checked: Checked,
}

impl Model {
    pub(super) fn new(config: Config, setup: &Setup) -> Self {
        Self {
            config,
            vetoes: setup.is(Knob::HookPoints),
            narrow: setup.channel_queue().map(|queue| queue.messages),
            in_parts: setup.is(Knob::ResponseBudget),
            socket_in_parts: setup.is(Knob::Budget),
            event_size_max: setup.event_size_max(),
            now: Time::ZERO,
            moment: 0,
            rests: 0,
            lines: BTreeMap::new(),
            sessions: BTreeMap::new(),
            events: BTreeMap::new(),
            published_on: BTreeSet::new(),
            spreading: BTreeSet::new(),
            denied: BTreeMap::new(),
            too_late: BTreeSet::new(),
            kept: None,
            kept_until: 0,
            dropped: BTreeSet::new(),
            passed: BTreeSet::new(),
            drops_are_over: false,
            retired: None,
            ending: BTreeMap::new(),
            stillborn: BTreeSet::new(),
            removals: Vec::new(),
            unknown: BTreeSet::new(),
            checked: Checked::default(),
        }
    }

    pub(super) fn checked(&self) -> Checked {
        self.checked
    }

    fn next_moment(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    /// What happened since the last call, until the world came to rest.
    pub(in crate::swarm) fn observe(&mut self, world: &World, happenings: &[(Time, Happening)]) -> Verdict {
        self.ending.clear();
        for (_, happening) in happenings {
            if let Happening::Notice(Notice::SessionRemoved { session, reason }) = happening {
                self.ending.insert(session.as_str().to_owned(), *reason);
            }
        }
        // So may the dropping of events.
        for (_, happening) in happenings {
            if let Happening::Notice(Notice::Overflowed { session, .. }) = happening
                && let Some(session) = self.sessions.get_mut(session.as_str())
            {
                session.overflowed = Some(self.moment);
                session.owed.clear();
            }
        }
        // And so may the expiry of a decision.
        for (_, happening) in happenings {
            if let Happening::Retired(question) = happening {
                self.retired = Some(question.clone());
            } else if let Happening::Notice(Notice::DecisionExpired { .. }) = happening
                && let Some(question) = self.retired.take()
            {
                self.decided(&question, false);
            }
        }
        for (at, happening) in happenings {
            self.now = *at;
            self.next_moment();
            match happening {
                Happening::Received(peer, messages) => self.on_received(world, *peer, messages)?,
                Happening::Drained(peer, messages) => self.on_drained(world, *peer, messages)?,
                Happening::Written(peer) => self.on_written(*peer),
                Happening::Lost(peer) => self.on_lost(*peer)?,
                Happening::Ended(key) => self.on_ended(world, *key)?,
                Happening::Closed(socket) => self.on_closed(world, *socket)?,
                Happening::Notice(notice) => self.on_notice(world, notice)?,
                Happening::Frame(..) | Happening::Asked(_) | Happening::Retired(_) => {}
            }
        }
        self.now = world.now();
        self.next_moment();
        self.rest(world)?;
        self.rests += 1;
        Ok(())
    }

    /// The world is at rest: nothing more happens before time passes or somebody does something.
    fn rest(&mut self, world: &World) -> Verdict {
        self.settle_holds(world)?;
        self.settle_events(world);
        self.settle_channels(world);
        self.check_waiting(world)?;
        self.check_held(world)?;
        self.settle_unheard();
        self.check_expiry(world)?;
        self.check_unanswered(world)?;
        self.check_abandoned(world)?;
        self.drop_last_connects();
        self.lines.retain(|_, line| line.open || !line.requests.is_empty());
        Ok(())
    }

    fn on_notice(&mut self, world: &World, notice: &Notice) -> Verdict {
        match notice {
            Notice::SessionAdded { session, conn, .. } => {
                let peer = world.peer_of(*conn);
                self.session_added(world, session.as_str(), peer, true)
            }
            Notice::SessionRemoved { session, reason } => self.session_removed(session.as_str(), *reason),
            Notice::Overflowed { session, channel, policy, .. } => self.overflowed(session.as_str(), channel, *policy),
            Notice::Subscribed { .. } | _ => Ok(()),
        }
    }

    /// A queue was full (rule Z-11): what waits, and what is on its way, may be missing from now on.
    fn overflowed(&mut self, id: &str, channel: &str, policy: Overflow) -> Verdict {
        let moment = self.moment;
        let (messages, bytes) = (self.config.long_polling.max_queue, self.config.long_polling.max_queue_bytes);
        let Some(session) = self.sessions.get(id) else { return Ok(()) };
        // What was drained in this very moment may have been in the queue when there was no room.
        let emptied = session.drained_before == Some(self.rests);
        if !session.ack && !emptied && policy != Overflow::KeepLatest {
            // Each subscription may bring what a channel keeps once more.
            let again = session.spans.iter().filter(|span| span.pattern == KEPT).count();
            let waiting = self.may_wait(id, session, None) + again;
            let narrow = self.narrow.filter(|_| channel == NARROW);
            let crowded = narrow.is_some_and(|limit| self.may_wait(id, session, Some(NARROW)) > limit);
            if waiting <= messages && waiting * self.event_size_max <= bytes && !crowded {
                return Err(format!("Z-11: the queue of {id} overflowed, although at most {waiting} events can wait"));
            }
        }
        let Some(session) = self.sessions.get_mut(id) else { return Ok(()) };
        session.overflowed = Some(moment);
        session.overflow_removes |= policy == Overflow::RemoveSession;
        session.owed.clear();
        Ok(())
    }

    /// Whether a session is alive, as far as the model knows.
    fn alive(&self, id: &str) -> Option<&Session> {
        self.sessions.get(id).filter(|session| session.ended.is_none())
    }

    /// What is left in the end, with everything healed, answered and delivered.
    pub(super) fn finish(&self) -> Verdict {
        for (id, session) in &self.sessions {
            if session.ended.is_none() {
                return Err(format!("L-20: session {id} is still there"));
            }
        }
        for (peer, line) in &self.lines {
            if line.open
                && let Some(request) = line.requests.iter().find(|request| line.transport.is_http() || !request.held)
            {
                return Err(format!("TW-29: no reply to {} on {peer:?}", request.label()));
            }
        }
        Ok(())
    }

    /// Whether the application holds back what is for a session.
    pub(super) fn is_held_back(&self, id: &str) -> bool {
        self.alive(id).is_some_and(|session| session.holds > 0)
    }

    /// What is owed to those sessions that somebody listens for, as sentences.
    pub(super) fn debts(&self, listening: impl Fn(&str) -> bool) -> Vec<String> {
        let alive = self.sessions.iter().filter(|(id, session)| session.ended.is_none() && listening(id));
        alive
            .flat_map(|(id, session)| {
                session.owed.iter().map(move |owed| format!("event {} is still owed to session {id}", owed.number))
            })
            .collect()
    }
}

/// Whether a session that ended for that reason was told, or told so itself.
fn is_disconnect(reason: RemovalReason) -> bool {
    matches!(reason, RemovalReason::ClientDisconnect | RemovalReason::ServerDisconnect | RemovalReason::Inactive)
}
