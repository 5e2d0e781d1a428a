//! The run's clock, and a wake-up that is more exact than the poll's milliseconds.

use std::io;
use std::time::{Duration, Instant};

/// A moment of the run: nanoseconds since its start. All threads of the generator share that zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// Later than any run.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` later.
    pub(crate) fn plus(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Nanoseconds since `earlier`, zero where that is later.
    pub(crate) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Time since `earlier`, zero where that is later.
    pub(crate) fn elapsed_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.since(earlier))
    }
}

/// Reads the time of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts at zero.
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time.
    pub(crate) fn now(&self) -> Moment {
        Moment(nanos(self.origin.elapsed()))
    }
}

/// A duration in nanoseconds; centuries are cut.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Wakes a poll at a moment.
///
/// A poll's own timeout has whole milliseconds; a schedule of 20,000 messages a second has one every 50 µs. On Linux a
/// timer descriptor in the poll keeps such a schedule without spinning; elsewhere the poll's timeout has to do.
#[derive(Debug)]
pub(crate) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: std::os::fd::OwnedFd,
    set_to: Moment,
}

#[cfg(target_os = "linux")]
impl Alarm {
    /// An alarm that wakes `registry`'s poll with `token`.
    pub(crate) fn new(registry: &mio::Registry, token: mio::Token) -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        use std::os::fd::AsRawFd;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut mio::unix::SourceFd(&timer.as_raw_fd()), token, mio::Interest::READABLE)?;
        Ok(Self { timer, set_to: Moment::NEVER })
    }

    /// Sets it to `at`, and yields the timeout to poll with.
    pub(crate) fn set(&mut self, now: Moment, at: Moment) -> io::Result<Option<Duration>> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        if at <= now {
            return Ok(Some(Duration::ZERO));
        }
        if at != self.set_to && at != Moment::NEVER {
            let wait = at.since(now);
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let it_value = Timespec {
                tv_sec: i64::try_from(wait / 1_000_000_000).unwrap_or(i64::MAX),
                // Below a thousand million by the division.
                tv_nsec: (wait % 1_000_000_000) as _,
            };
            let timer = Itimerspec { it_interval: zero, it_value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)?;
        }
        self.set_to = at;
        Ok(None)
    }

    /// Tells it that its token woke the poll.
    ///
    /// The descriptor is registered by edge: expirations that nobody reads do no harm.
    pub(crate) fn rang(&mut self) {
        self.set_to = Moment::NEVER;
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// An alarm that is the poll's timeout.
    #[allow(clippy::unnecessary_wraps, reason = "the same signature everywhere")]
    pub(crate) fn new(_: &mio::Registry, _: mio::Token) -> io::Result<Self> {
        Ok(Self { set_to: Moment::NEVER })
    }

    /// Yields the timeout to poll with.
    #[allow(clippy::unnecessary_wraps, reason = "the same signature everywhere")]
    pub(crate) fn set(&mut self, now: Moment, at: Moment) -> io::Result<Option<Duration>> {
        self.set_to = at;
        Ok((at != Moment::NEVER).then(|| at.elapsed_since(now)))
    }

    /// Nothing to tell: there is no token.
    pub(crate) fn rang(&mut self) {}
}
