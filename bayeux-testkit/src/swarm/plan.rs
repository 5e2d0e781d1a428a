//! What a run is: options and steps, drawn from a seed, decoded from bytes, or written down.

use std::fmt;
use std::str::FromStr;

use crate::random::Random;
use crate::swarm::setup::{Knob, Setup};

/// A whole run: what the server and the clients are like, and what happens, step by step.
///
/// Clients, channels and all else are named by small numbers, taken modulo what is there. So every sequence of steps is a
/// plan, and so is every part of one: that is what makes a failing plan small.
///
/// It has a form in text, which [`FromStr`] reads and [`fmt::Display`] writes:
///
/// ```
/// use bayeux_testkit::swarm::Plan;
///
/// let plan: Plan = "seed 5\nshards 2\nsteps\nbegin 0\nwait 500\nsubscribe 0 2\npublish 0 0 1\n".parse()?;
/// assert_eq!(plan.steps.len(), 4);
/// assert_eq!(plan.to_string().parse(), Ok(plan));
/// # Ok::<(), bayeux_testkit::swarm::PlanError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything that is left to chance while the plan is carried out.
    pub seed: u64,
    /// What it is carried out with.
    pub setup: Setup,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub verb: Verb,
    /// To whom and how: as many as [`Verb::arguments`] names, the others are 0.
    pub args: [u32; 3],
}

/// What a number of a step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// A client, modulo their number.
    Client,
    /// A host, modulo their number.
    Host,
    /// A channel to publish on, modulo their number.
    Channel,
    /// A channel to subscribe to, wildcards included, modulo their number.
    Pattern,
    /// How many: 1 and more.
    Count,
    /// Milliseconds.
    Millis,
    /// One of several things, modulo their number.
    Choice,
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident $word:literal $weight:literal [$($argument:ident)*],)*) => {
        /// What can happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Verb { $($(#[$doc])* $name,)* }

        impl Verb {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for it in a plan's text.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What its numbers mean.
            pub fn arguments(self) -> &'static [Argument] {
                match self { $(Self::$name => &[$(Argument::$argument,)*],)* }
            }

            /// How often it is drawn, beside the others.
            fn weight(self) -> usize {
                match self { $(Self::$name => $weight,)* }
            }
        }
    };
}

verbs! {
    /// Time passes.
    Wait "wait" 30 [Millis],
    /// Time passes at once: everything that was due meanwhile is late.
    Oversleep "oversleep" 1 [Millis],
    /// A client that has no session gets one.
    Begin "begin" 6 [Client],
    /// A client subscribes.
    Subscribe "subscribe" 8 [Client Pattern],
    /// A client subscribes to two channels with one message.
    SubscribeTwo "subscribe-two" 3 [Client Pattern Pattern],
    /// A client unsubscribes.
    Unsubscribe "unsubscribe" 3 [Client Pattern],
    /// A client publishes, each message in an envelope of its own.
    Publish "publish" 20 [Client Channel Count],
    /// A client publishes several messages in one envelope.
    Batch "batch" 4 [Client Channel Count],
    /// A client disconnects.
    Disconnect "disconnect" 2 [Client],
    /// A client goes on over another transport, mostly with events for it on their way, and may ask for another timeout.
    Switch "switch" 2 [Client Choice],
    /// A client loses its connections and goes on with its session, as a page does that is reloaded.
    Reload "reload" 2 [Client],
    /// A client asks for a timeout, or an interval, with its next connects; or for nothing special any more.
    Wish "wish" 2 [Client Choice],
    /// A client handshakes again although it has a session (rule H-2).
    HandshakeAgain "handshake-again" 1 [Client],
    /// A client sends a connect beside the one that is held.
    ConnectTwice "connect-twice" 3 [Client],
    /// A client sends a connect together with other messages (rule K-16).
    ConnectInBatch "connect-in-batch" 2 [Client Channel],
    /// A client sends a batch of everything.
    Everything "everything" 2 [Client Channel Choice],
    /// A client sends what is no valid message.
    Nonsense "nonsense" 4 [Client Choice],
    /// A client names a session that never was.
    WrongId "wrong-id" 1 [Client Choice],
    /// A client names another client's session.
    StealId "steal-id" 1 [Client Client Choice],
    /// A client acknowledges what it was not sent.
    LieAboutAck "lie-about-ack" 1 [Client Choice],
    /// A client breaks off what it has under way and tells nobody.
    HangUp "hang-up" 3 [Client],
    /// A connection breaks in the middle of a response.
    BreakOff "break-off" 20 [Choice],
    /// A client's WebSocket is not read any more.
    StopReading "stop-reading" 1 [Client],
    /// It is read again.
    ReadAgain "read-again" 1 [Client],
    /// A client is silent from now on, until it begins again.
    FallSilent "fall-silent" 1 [Client],
    /// What a host sends and is sent is held.
    Hold "hold" 1 [Host],
    /// It is released.
    Release "release" 1 [Host],
    /// A host is cut off.
    Partition "partition" 1 [Host],
    /// A host is cut off in one direction.
    PartitionOneWay "partition-oneway" 1 [Host Choice],
    /// A host is cut off no more.
    Repair "repair" 2 [Host],
    /// A host disappears with its connections.
    Vanish "vanish" 1 [Host],
    /// The application publishes.
    AppPublish "app-publish" 5 [Channel Count],
    /// The application publishes what may wait.
    AppPublishLazy "app-publish-lazy" 2 [Channel Choice],
    /// The application delivers to a client's session.
    AppDeliver "app-deliver" 3 [Client],
    /// The application disconnects a client's session.
    AppDisconnect "app-disconnect" 1 [Client],
    /// The application removes a client's session.
    AppRemove "app-remove" 1 [Client],
    /// The application holds back what is for a client's session, delivers, and lets it go later.
    AppHold "app-hold" 1 [Client],
    /// The application lets go what it held back.
    AppRelease "app-release" 2 [Client],
    /// The application subscribes a client's session.
    AppSubscribe "app-subscribe" 1 [Client Pattern],
    /// The application unsubscribes a client's session.
    AppUnsubscribe "app-unsubscribe" 1 [Client Pattern],
    /// The application changes a setting of a client's session.
    AppSet "app-set" 4 [Client Choice],
    /// The application removes a channel.
    AppRemoveChannel "app-remove-channel" 1 [Pattern],
    /// A question that waits is answered: yes, or no.
    Answer "answer" 6 [Choice Choice],
    /// A question that waits no more is answered, too late.
    AnswerLate "answer-late" 3 [Choice Choice],
    /// The application ends a session about which it is asked.
    AppEndAsked "app-end-asked" 2 [Choice Choice],
}

/// Where the numbers of a plan come from.
pub(super) enum Source<'a> {
    Seed(Random),
    Bytes(&'a [u8]),
}

impl Source<'_> {
    /// A number below `bound`, 0 when there is nothing left.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        match self {
            Self::Seed(random) => random.below(bound),
            Self::Bytes(bytes) => {
                let Some((&first, rest)) = bytes.split_first() else { return 0 };
                *bytes = rest;
                let mut number = usize::from(first);
                if bound > 256
                    && let Some((&second, rest)) = bytes.split_first()
                {
                    *bytes = rest;
                    number = number << 8 | usize::from(second);
                }
                number % bound.max(1)
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Bytes([]))
    }
}

impl Plan {
    /// The plan that a seed stands for, of a few hundred steps.
    pub fn from_seed(seed: u64) -> Self {
        // Neighbouring seeds are to have nothing in common.
        let mut source = Source::Seed(Random::new(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5eed));
        let setup = Setup::draw(&mut source);
        let steps = *[60, 120, 250].get(source.below(3)).unwrap_or(&60);
        Self::draw(seed, setup, &mut source, steps)
    }

    /// The plan that `bytes` stand for: the options first, then steps until the bytes end. Any bytes are a plan, and
    /// similar bytes are similar ones.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut source = Source::Bytes(bytes);
        let seed = source.below(256) as u64;
        let setup = Setup::draw(&mut source);
        Self::draw(seed, setup, &mut source, STEPS_MAX)
    }

    fn draw(seed: u64, setup: Setup, source: &mut Source<'_>, count: usize) -> Self {
        let clients = u32::try_from(setup.get(Knob::Clients)).unwrap_or(1);
        let mut steps: Vec<_> = (0..clients).map(|at| Step { verb: Verb::Begin, args: [at, 0, 0] }).collect();
        steps.push(Step { verb: Verb::Wait, args: [1_000, 0, 0] });
        // What a run does at all is drawn, too: a mix of everything would seldom go deep anywhere.
        let favoured: Vec<bool> = Verb::ALL.iter().map(|verb| verb.weight() >= 6 || source.below(100) < 60).collect();
        let weight = |at: usize, verb: &Verb| if favoured[at] { verb.weight() } else { 0 };
        let total: usize = Verb::ALL.iter().enumerate().map(|(at, verb)| weight(at, verb)).sum();
        while steps.len() < count && !source.is_empty() {
            let mut ticket = source.below(total);
            for (at, &verb) in Verb::ALL.iter().enumerate() {
                if ticket < weight(at, &verb) {
                    steps.push(Step::draw(verb, source));
                    break;
                }
                ticket -= weight(at, &verb);
            }
        }
        Self { seed, setup, steps }
    }
}

impl Step {
    fn draw(verb: Verb, source: &mut Source<'_>) -> Self {
        let mut args = [0; 3];
        for (slot, argument) in args.iter_mut().zip(verb.arguments()) {
            let number = match argument {
                Argument::Client | Argument::Host => source.below(6),
                Argument::Channel => source.below(super::CHANNELS.len()),
                Argument::Pattern => source.below(super::PATTERNS.len()),
                Argument::Count => 1 + source.below(4),
                // Mostly short, at times as long as timeouts are.
                Argument::Millis => match source.below(8) {
                    0 => source.below(12_000),
                    1 | 2 => source.below(2_500),
                    _ => source.below(250),
                },
                Argument::Choice => source.below(64),
            };
            *slot = u32::try_from(number).unwrap_or_default();
        }
        Self { verb, args }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb.word())?;
        self.args.iter().zip(self.verb.arguments()).try_for_each(|(number, _)| write!(f, " {number}"))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        write!(f, "{}", self.setup)?;
        writeln!(f, "steps")?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// Why a text is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for PlanError {}

impl FromStr for Plan {
    type Err = PlanError;

    /// Options may be absent: the simplest ones hold then. `#` begins a comment.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut plan = Self { seed: 0, setup: Setup::simplest(), steps: Vec::new() };
        let mut in_steps = false;
        for (at, line) in text.lines().enumerate() {
            let error = |what: String| PlanError { line: at + 1, what };
            let line = line.split('#').next().unwrap_or_default().trim();
            let mut words = line.split_whitespace();
            let Some(word) = words.next() else { continue };
            let numbers = words.map(|text| text.parse().map_err(|_| error(format!("{text:?} is no number"))));
            let numbers = numbers.collect::<Result<Vec<u64>, _>>()?;
            match (in_steps, word, &numbers[..]) {
                (false, "steps", []) => in_steps = true,
                (false, "seed", [seed]) => plan.seed = *seed,
                (false, name, [value]) => {
                    let knob = Knob::from_name(name).ok_or_else(|| error(format!("there is no option {name:?}")))?;
                    plan.setup.set(knob, *value).map_err(error)?;
                }
                (false, name, _) => return Err(error(format!("{name:?} takes one number"))),
                (true, word, numbers) => plan.steps.push(step(word, numbers).map_err(error)?),
            }
        }
        Ok(plan)
    }
}

fn step(word: &str, numbers: &[u64]) -> Result<Step, String> {
    let verb = Verb::ALL.iter().copied().find(|verb| verb.word() == word);
    let verb = verb.ok_or_else(|| format!("there is no step {word:?}"))?;
    if numbers.len() != verb.arguments().len() {
        return Err(format!("{word:?} takes {:?}", verb.arguments()));
    }
    let mut args = [0; 3];
    for (slot, &number) in args.iter_mut().zip(numbers) {
        *slot = u32::try_from(number).map_err(|_| format!("{number} is too large"))?;
    }
    Ok(Step { verb, args })
}

/// Steps that bytes can stand for at most, so that a fuzzer's input takes no longer than a seed does.
const STEPS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_plan_is_that_plan() {
        for seed in 0..50 {
            let plan = Plan::from_seed(seed);
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
    }

    #[test]
    fn any_bytes_are_a_plan_and_its_beginning_is_one_of_their_beginning() {
        let mut random = Random::new(3);
        let bytes: Vec<u8> = (0..600).map(|_| random.below(256) as u8).collect();
        let whole = Plan::from_bytes(&bytes);
        let part = Plan::from_bytes(&bytes[..300]);
        assert!(part.steps.len() > 20 && part.steps.len() < whole.steps.len());
        assert_eq!(part.setup, whole.setup);
        let common = part.steps.len() - 1;
        assert_eq!(part.steps[..common], whole.steps[..common]);
        Plan::from_bytes(&[]);
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        let error = |text: &str| text.parse::<Plan>().expect_err(text).to_string();
        assert_eq!(error("shards 3"), "line 1: shards cannot be 3");
        assert_eq!(error("seed 1\nshrads 2"), "line 2: there is no option \"shrads\"");
        assert_eq!(error("steps\nfly 1"), "line 2: there is no step \"fly\"");
        assert_eq!(error("steps\nwait"), "line 2: \"wait\" takes [Millis]");
    }
}
