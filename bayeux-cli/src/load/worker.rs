//! One thread of the generator: a poll, the connections of its sessions, and the loop that serves both.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use super::clock::{Alarm, Moment};
use super::crew::{Action, Crew, Latencies, Reasons, Slot, histogram, recordable};
use super::link::{Event, Life, Link, Received};
use super::plan::{Pace, mix};
use super::proc;
use super::session::Session;
use super::shared::{Count, Phase, Shared};
use super::target::Transport;

/// Wakes the poll for what other threads have to say.
pub(crate) const WAKER: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);

/// What one read may take in. Large, since a frame is some hundred bytes, and a system call costs as much as a dozen.
const SCRATCH: usize = 256 * 1024;

/// How many buffers are read of one connection before others get their turn.
const READS_MAX: usize = 4;

/// Batches that are sent before what has arrived is read: a schedule that lags catches up, but not at the expense of
/// the measurement.
const BATCHES_MAX: usize = 256;

/// With nothing to do, the thread still shows up so often.
const NAP: Duration = Duration::from_millis(100);

/// How busy a thread was while it measured.
#[derive(Debug)]
pub(crate) struct Effort {
    /// Processor time, where the system tells.
    pub(crate) cpu: Option<Duration>,
    /// Time that a turn of the loop took, in nanoseconds: what arrives meanwhile is noticed so much later.
    pub(crate) turns: Histogram<u64>,
}

/// What a thread has to tell at the end.
#[derive(Debug)]
pub(crate) struct Findings {
    /// What it measured.
    pub(crate) latencies: Latencies,
    /// Why sessions ended and publishes were refused.
    pub(crate) reasons: Reasons,
    /// Deliveries that sessions which lived to the end did not get.
    pub(crate) lost: u64,
    /// Those that sessions which ended or broke did not get.
    pub(crate) lost_of_ended: u64,
    /// Publishes without reply.
    pub(crate) unanswered: u64,
    /// How busy it was.
    pub(crate) effort: Effort,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    thread: u32,
    poll: Poll,
    alarm: Alarm,
    links: Vec<Option<Link>>,
    crew: Crew,
    sources: Vec<IpAddr>,
    /// Connections that may have more to read.
    unread: Vec<usize>,
    scratch: Vec<u8>,
    sending: Sending,
    effort: Effort,
    cpu_before: Option<Duration>,
    measuring: bool,
    /// The phase that the thread is in, by its number, and whether it is [`Phase::Drain`].
    entered: u32,
    draining: bool,
    masks: u64,
    arrived: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Nothing,
    /// A closed loop is to start.
    Closed {
        start: Moment,
        until: Moment,
    },
    /// `batch` is the next one that may be this thread's.
    Scheduled {
        start: Moment,
        until: Moment,
        batch: u64,
        batches: u64,
    },
}

impl Worker {
    /// The thread number `thread`, with a poll that its waker is registered with.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn new(shared: Arc<Shared>, thread: u32, poll: Poll, sources: Vec<IpAddr>) -> io::Result<Self> {
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let crew = Crew::new(shared.clone(), thread);
        Ok(Self {
            alarm,
            poll,
            links: std::iter::repeat_with(|| None).take(2 * crew.size()).collect(),
            crew,
            sources,
            unread: Vec::new(),
            scratch: vec![0; SCRATCH],
            sending: Sending::Nothing,
            effort: Effort { cpu: None, turns: histogram() },
            cpu_before: None,
            measuring: false,
            entered: 0,
            draining: false,
            masks: mix(u64::from(std::process::id()), u64::from(thread)),
            arrived: Vec::new(),
            thread,
            shared,
        })
    }

    /// Serves until the run stops.
    ///
    /// # Errors
    /// Those of the poll. What goes wrong with connections is counted.
    pub(crate) fn run(mut self) -> io::Result<Findings> {
        let mut events = Events::with_capacity(1024);
        let mut next = Moment(0);
        loop {
            let timeout = if self.unread.is_empty() {
                Some(self.alarm.set(self.shared.clock.now(), next)?.unwrap_or(NAP))
            } else {
                Some(Duration::ZERO)
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let now = self.shared.clock.now();
            if self.shared.version() != self.entered && !self.enter_phase() {
                return Ok(self.findings());
            }
            self.serve(&events);
            next = self.turn();
            let done = self.shared.clock.now();
            if self.measuring {
                self.effort.turns.saturating_record(recordable(done.elapsed_since(now)));
            }
        }
    }

    /// Enters the run's phase; whether there is anything more to do.
    fn enter_phase(&mut self) -> bool {
        let (version, phase) = self.shared.phase();
        self.entered = version;
        self.draining = phase == Phase::Drain;
        match phase {
            Phase::Join => self.crew.join(),
            Phase::Publish { start, until, batches, measured } => {
                self.crew.reset_closed_loop();
                if measured {
                    self.measuring = true;
                    self.cpu_before = proc::own_thread();
                    self.crew.measure_from(start);
                }
                self.sending = match self.shared.plan.shape().pace {
                    // Publishers are the first sessions, and sessions go round the threads.
                    _ if self.thread >= self.shared.plan.publishers() => Sending::Nothing,
                    Pace::Closed { .. } => Sending::Closed { start, until },
                    Pace::Scheduled { .. } => Sending::Scheduled { start, until, batch: 0, batches },
                };
            }
            Phase::Drain => {
                self.crew.stop_closed_loop();
                // What a schedule owes is sent however late it is: that is what the latencies are to show.
                if !matches!(self.sending, Sending::Scheduled { .. }) {
                    self.sending = Sending::Nothing;
                }
            }
            Phase::Leave => {
                self.sending = Sending::Nothing;
                self.stop_measuring();
                self.crew.leave();
            }
            Phase::Stop => {
                self.stop_measuring();
                return false;
            }
        }
        true
    }

    fn stop_measuring(&mut self) {
        if std::mem::take(&mut self.measuring) {
            let used = self.cpu_before.zip(proc::own_thread());
            self.effort.cpu = used.map(|(before, after)| after.saturating_sub(before));
        }
    }

    /// Reads and writes whatever can be.
    fn serve(&mut self, events: &Events) {
        for index in std::mem::take(&mut self.unread) {
            self.read(index, true);
        }
        for event in events {
            match event.token() {
                WAKER => {}
                ALARM => self.alarm.rang(),
                Token(index) => {
                    if event.is_writable() {
                        self.write(index);
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.read(index, event.is_read_closed());
                    }
                }
            }
            self.act();
        }
    }

    /// What is to be done each turn; yields when the next one is due.
    fn turn(&mut self) -> Moment {
        let now = self.shared.clock.now();
        self.shared.post(self.thread).take_delivered(&mut self.arrived);
        for slot in self.arrived.drain(..) {
            self.crew.on_delivered(slot, now);
        }
        let timer = self.crew.timers(now);
        let batch = self.send_what_is_due(now);
        self.act();
        // A thread that has more to send is not draining, whatever the others do.
        let entered = self.entered - u32::from(self.draining && self.sending != Sending::Nothing);
        self.shared.post(self.thread).publish(&self.crew.counts, self.crew.last, entered);
        timer.min(batch)
    }

    /// Sends batches that are due; yields when the next one is.
    fn send_what_is_due(&mut self, now: Moment) -> Moment {
        match self.sending {
            Sending::Nothing => Moment::NEVER,
            Sending::Closed { start, .. } if now < start => start,
            Sending::Closed { until, .. } => {
                self.sending = Sending::Nothing;
                self.crew.start_closed_loop(now, until);
                Moment::NEVER
            }
            Sending::Scheduled { start, until, mut batch, batches } => {
                let mut due = Moment::NEVER;
                for _ in 0..BATCHES_MAX {
                    batch = self.next_own(batch, batches);
                    due = self.shared.plan.due(start, batch);
                    if batch >= batches || due >= until {
                        self.sending = Sending::Nothing;
                        return Moment::NEVER;
                    }
                    if due > now {
                        break;
                    }
                    let publisher = self.shared.plan.publisher(batch);
                    self.crew.publish((publisher / self.shared.threads()) as usize, 0, due, self.shared.clock.now());
                    // A batch is on its way before the next one: what is measured is one, not many at once.
                    self.act();
                    batch += 1;
                }
                self.sending = Sending::Scheduled { start, until, batch, batches };
                due
            }
        }
    }

    /// The first batch from `batch` on that one of this thread's publishers sends, of which there is one at least.
    fn next_own(&self, mut batch: u64, batches: u64) -> u64 {
        let plan = &self.shared.plan;
        while batch < batches && plan.thread_of(plan.publisher(batch)) != self.thread {
            batch += 1;
        }
        batch
    }

    /// Carries out what the crew asks for.
    fn act(&mut self) {
        while let Some(action) = self.crew.next_action() {
            match action {
                Action::Send(slot) => self.send(slot),
                Action::Close(slot) => self.close(slot),
                Action::Drop(slot) => self.links[slot.index()] = None,
            }
        }
    }

    fn send(&mut self, slot: Slot) {
        let mask = self.mask();
        let exchanges = self.shared.target.transport == Transport::LongPolling;
        let Session { cookie, lanes, .. } = self.crew.session(slot.session);
        let lane = &mut lanes[slot.way as usize];
        if lane.envelope.is_empty() || lane.busy {
            return;
        }
        if !lane.linked {
            lane.linked = true;
            let opened = self.open(slot);
            if let Err(error) = opened {
                self.crew.on_broken(slot, format!("cannot connect: {error}"));
            }
            return;
        }
        let Some(link) = self.links[slot.index()].as_mut().filter(|_| lane.open) else { return };
        lane.envelope.push(b']');
        lane.busy = exchanges;
        let sent = link.send(&self.shared.target, cookie, &lane.envelope, mask);
        lane.envelope.clear();
        lane.envelope.shrink_to(ENVELOPE_KEPT);
        self.crew.counts[Count::BytesOut] += link.take_uncounted();
        if let Err(error) = sent {
            self.crew.on_broken(slot, error.to_string());
        }
    }

    fn open(&mut self, slot: Slot) -> io::Result<()> {
        let source = match self.sources.len() {
            0 => None,
            count => Some(self.sources[self.crew.session(slot.session).index as usize % count]),
        };
        let Shared { target, .. } = &*self.shared;
        let link = Link::open(target, source, self.poll.registry(), Token(slot.index()))?;
        self.links[slot.index()] = Some(link);
        Ok(())
    }

    fn close(&mut self, slot: Slot) {
        let mask = self.mask();
        // Only a WebSocket has something to say; and nothing is lost if it cannot.
        if let Some(link) = self.links[slot.index()].as_mut()
            && (self.shared.target.transport == Transport::LongPolling || link.close(mask).is_err())
        {
            self.links[slot.index()] = None;
        }
    }

    fn write(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index).and_then(Option::as_mut) else { return };
        let now = self.shared.clock.now();
        let slot = Slot::at(index);
        let crew = &mut self.crew;
        let written = link.writable(&mut |event| crew.on_event(slot, event, now));
        self.crew.counts[Count::BytesOut] += link.take_uncounted();
        if let Err(error) = written {
            self.crew.on_broken(slot, error.to_string());
        }
        self.act();
    }

    /// Reads a connection. The poll tells but once of bytes and the end behind them, so a read that comes up short is
    /// not the last one where it told of the end.
    fn read(&mut self, index: usize, to_the_end: bool) {
        let mask = self.mask();
        let slot = Slot::at(index);
        for _ in 0..READS_MAX {
            let Some(link) = self.links.get_mut(index).and_then(Option::as_mut) else { return };
            let received = link.receive(&mut self.scratch);
            let more = matches!(received, Ok(Received::Some(_))) || to_the_end;
            // Read once for all that came at once.
            let now = self.shared.clock.now();
            let crew = &mut self.crew;
            let mut on = |event: Event<'_>| crew.on_event(slot, event, now);
            let (count, life) = match received {
                Ok(Received::Nothing) => return,
                Ok(Received::End) => (0, link.ended(&mut on)),
                Ok(Received::Some(count) | Received::All(count)) => {
                    (count, link.take(&self.scratch[..count], mask, &mut on))
                }
                Err(error) => (0, Err(error)),
            };
            self.crew.counts[Count::BytesIn] += count as u64;
            match life {
                Ok(Life::On) => {}
                Ok(Life::Ended) => self.links[index] = None,
                Err(error) => self.crew.on_broken(slot, error.to_string()),
            }
            self.act();
            if !more {
                return;
            }
        }
        self.unread.push(index);
    }

    /// A key for the frames of one turn. RFC 6455 wants it unpredictable, to protect caches between browsers and
    /// servers; it is no secret here.
    fn mask(&mut self) -> u32 {
        self.masks = self.masks.wrapping_add(1);
        mix(self.masks, 0) as u32
    }

    fn findings(self) -> Findings {
        let (lost, lost_of_ended) = self.crew.lost();
        Findings {
            lost,
            lost_of_ended,
            unanswered: self.crew.unanswered(),
            latencies: self.crew.latencies,
            reasons: self.crew.reasons,
            effort: self.effort,
        }
    }
}

/// Envelopes' buffers up to this size stay with a session that is idle.
const ENVELOPE_KEPT: usize = 4096;
