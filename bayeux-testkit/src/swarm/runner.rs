//! Carries a plan out.

use std::time::Duration;

use bayeux_core::{Command, RemovalReason, SessionSetting, Time, Transport, Verdict};
use bayeux_proto::Lazy;
use serde_json::json;

use crate::client::{channel, event, pattern};
use crate::net::{Arrival, Direction, HostKey, Net};
use crate::random::Random;
use crate::swarm::client::{Client, Ground, Learned, Phase};
use crate::swarm::hooks::{self, Deed, Diary};
use crate::swarm::model::{Model, Origin};
use crate::swarm::plan::{Plan, Step, Verb};
use crate::swarm::setup::Knob;
use crate::swarm::{CHANNELS, KEPT, PATTERNS, Stats};
use crate::world::World;

/// A run under way.
pub(super) struct Runner<'a> {
    plan: &'a Plan,
    ground: Ground,
    hosts: Vec<HostKey>,
    clients: Vec<Client>,
    model: Model,
    diary: Diary,
    step: usize,
    stats: Stats,
}

type Outcome = Result<(), String>;

impl<'a> Runner<'a> {
    pub(super) fn new(plan: &'a Plan, lines: usize, prepare: &dyn Fn(&World)) -> Self {
        let setup = &plan.setup;
        let mut options = setup.options(plan.seed);
        options.steps_kept = lines;
        let config = options.config.clone();
        let world = World::new(options);
        let diary = hooks::register(world.hooks(), setup, plan.seed);
        prepare(&world);
        let mut net = Net::new(world, plan.seed);
        let hosts: Vec<_> = (0..setup.get(Knob::Hosts)).map(|_| net.host()).collect();
        for host in &hosts {
            net.set_weather(*host, setup.weather());
        }
        let clients = (0..setup.get(Knob::Clients) as usize).map(|at| {
            // Each has its own chance, so that it is the same client however many others there are.
            let mut random = Random::new(plan.seed ^ (at as u64 + 1) << 32);
            let transport = if random.percent(setup.get(Knob::WebSocket)) {
                Transport::WebSocket
            } else if random.percent(setup.get(Knob::Callback)) {
                Transport::CallbackPolling
            } else {
                Transport::LongPolling
            };
            let http2 = random.percent(setup.get(Knob::Http2));
            let ack = random.percent(setup.get(Knob::Ack));
            let mut client = Client::new(at, hosts[at % hosts.len()], transport, http2, ack);
            client.hurries = setup.is(Knob::Hurried);
            client
        });
        Self {
            plan,
            clients: clients.collect(),
            ground: Ground::new(net, setup.get(Knob::Padding) as usize),
            hosts,
            model: Model::new(config, setup),
            diary,
            step: 0,
            stats: Stats::default(),
        }
    }

    /// Where it is: the step, the trace, the digest of everything.
    pub(super) fn position(&self) -> (usize, String, u64) {
        let world = self.ground.net.world();
        (self.step, world.trace(), world.digest())
    }

    pub(super) fn run(&mut self) -> Result<Stats, String> {
        self.observe()?;
        for step in &self.plan.steps {
            self.step += 1;
            self.take(*step)?;
            // What it set off, as far as it takes no time.
            self.pass(Duration::ZERO)?;
        }
        self.heal()?;
        if self.plan.setup.is(Knob::Shutdown) {
            self.shut_down()?;
        } else {
            self.calm_down()?;
        }
        self.stats.steps = self.plan.steps.len() as u64;
        self.stats.harm = self.ground.net.harm();
        self.stats.virtual_time = self.now().since(Time::ZERO);
        self.stats.checked = self.model.checked();
        Ok(self.stats)
    }

    fn now(&self) -> Time {
        self.ground.net.world().now()
    }

    // Phase one.

    fn take(&mut self, step: Step) -> Outcome {
        let [a, b, c] = step.args;
        let at = a as usize % self.clients.len();
        let host = self.hosts[a as usize % self.hosts.len()];
        let Self { ground, clients, .. } = self;
        let client = &mut clients[at];
        let name = |number: u32| CHANNELS[number as usize % CHANNELS.len()];
        let rude = |stats: &mut Stats| stats.rude += 1;
        match step.verb {
            Verb::Wait => return self.pass(Duration::from_millis(u64::from(a))),
            Verb::Oversleep => {
                let time = Duration::from_millis(u64::from(a));
                ground.net.act(|world| world.oversleep(time));
                return self.observe();
            }
            Verb::Begin => client.begin(ground),
            Verb::Subscribe => client.subscribe(ground, &[b]),
            Verb::SubscribeTwo => client.subscribe(ground, &[b, c]),
            Verb::Unsubscribe => client.unsubscribe(ground, b),
            Verb::Publish => client.publish(ground, name(b), c.clamp(1, 8), false),
            Verb::Batch => client.publish(ground, name(b), c.clamp(1, 8), true),
            Verb::Disconnect => client.disconnect(ground),
            Verb::Switch => {
                if b & 12 != 0 {
                    self.app_burst(at)?;
                }
                if b & 16 != 0 {
                    self.clients[at].wish(b / 32 + 2);
                }
                self.clients[at].switch(&mut self.ground, b);
            }
            Verb::Reload => client.reload(ground),
            Verb::Wish => client.wish(b),
            Verb::HandshakeAgain => client.handshake_again(ground),
            Verb::ConnectTwice => {
                client.connect_twice(ground);
                self.distrust(at);
                rude(&mut self.stats);
            }
            Verb::ConnectInBatch => {
                client.connect_in_batch(ground, name(b));
                self.distrust(at);
                rude(&mut self.stats);
            }
            Verb::Everything => {
                client.everything(ground, name(b), c);
                self.distrust(at);
                rude(&mut self.stats);
            }
            Verb::Nonsense => {
                client.nonsense(ground, b);
                rude(&mut self.stats);
            }
            Verb::WrongId => {
                client.steal(ground, "1234567890abcdef", b);
                rude(&mut self.stats);
            }
            Verb::StealId => self.steal(at, b as usize, c),
            Verb::LieAboutAck => {
                client.lie_about_ack(b);
                self.distrust(at);
                rude(&mut self.stats);
            }
            Verb::BreakOff => ground.net.break_off(a as usize),
            Verb::HangUp => client.hang_up(ground),
            Verb::StopReading => {
                if let Some(wire) = client.wire {
                    ground.net.stop_reading(wire);
                }
            }
            Verb::ReadAgain => {
                if let Some(wire) = client.wire {
                    ground.net.read_again(wire);
                }
            }
            Verb::FallSilent => client.fall_silent(),
            Verb::Hold => ground.net.hold(host),
            Verb::Release => ground.net.release(host),
            Verb::Partition => ground.net.partition(host),
            Verb::PartitionOneWay => {
                let direction = if b % 2 == 0 { Direction::ToServer } else { Direction::ToClient };
                ground.net.partition_oneway(host, direction);
            }
            Verb::Repair => ground.net.repair(host),
            Verb::Vanish => ground.net.vanish(host),
            Verb::AppPublish => return (0..b.clamp(1, 8)).try_for_each(|_| self.app_publish(name(a), None)),
            Verb::AppPublishLazy => {
                let lazy = [Duration::MAX, Duration::from_millis(200), Duration::from_secs(2)];
                let count = 1 + b as usize / lazy.len() % 3;
                let lazy = Some(lazy[b as usize % lazy.len()]);
                return (0..count).try_for_each(|_| self.app_publish(name(a), lazy));
            }
            Verb::Answer => return self.answer(a as usize, b % 4 != 0),
            Verb::AppEndAsked => return self.end_asked(a as usize, b % 2 == 0),
            Verb::AnswerLate => return self.answer_late(a as usize, b % 2 == 0),
            Verb::AppRemoveChannel => {
                let name = PATTERNS[a as usize % PATTERNS.len()];
                self.model.remove_channel(name);
                return self.command(Command::RemoveChannel { channel: pattern(name) });
            }
            Verb::AppDeliver
            | Verb::AppDisconnect
            | Verb::AppRemove
            | Verb::AppHold
            | Verb::AppRelease
            | Verb::AppSubscribe
            | Verb::AppUnsubscribe
            | Verb::AppSet => return self.app_session(step.verb, at, b),
        }
        self.observe()
    }

    fn distrust(&mut self, at: usize) {
        if let Some(id) = &self.clients[at].id {
            self.model.distrust(id);
        }
    }

    fn steal(&mut self, at: usize, from: usize, choice: u32) {
        let from = from % self.clients.len();
        let Some(id) = self.clients[from].id.clone() else { return };
        // Whoever names it takes it over, on a WebSocket; nobody can answer for it then.
        self.model.distrust(&id);
        if self.clients[at].ack.is_some() {
            // It may be given events of that session, and cannot tell them from its own.
            self.distrust(at);
        }
        self.clients[at].steal(&mut self.ground, &id, choice);
        self.stats.rude += 1;
    }

    // The application.

    fn command(&mut self, command: Command) -> Outcome {
        self.ground.net.act(|world| world.command(command));
        self.observe()
    }

    fn app_publish(&mut self, name: &str, lazy: Option<Duration>) -> Outcome {
        let number = self.ground.events;
        let data = self.ground.data();
        let mut event = event(name, &serde_json::from_str(&data).unwrap_or_else(|_| json!([])));
        event.lazy = match lazy {
            None => Lazy::No,
            Some(Duration::MAX) => Lazy::Yes,
            Some(wait) => Lazy::Within(wait),
        };
        self.model.publish(number, name, Origin::Application, lazy);
        self.command(Command::Publish { channel: channel(name), event, from: None, chain: 0 })
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "those of the application's verbs that name a session")]
    fn app_session(&mut self, verb: Verb, at: usize, choice: u32) -> Outcome {
        let Some(id) = self.clients[at].id.clone() else { return Ok(()) };
        let Some(session) = self.ground.net.world().session(&id).cloned() else { return Ok(()) };
        let name = PATTERNS[choice as usize % PATTERNS.len()];
        let command = match verb {
            Verb::AppDeliver => {
                let number = self.ground.events;
                self.ground.data();
                self.model.publish(number, "/private", Origin::To(id), None);
                hooks::deliver(session, number, self.ground.padding)
            }
            Verb::AppDisconnect => {
                self.model.dismiss(&id, RemovalReason::ServerDisconnect);
                Command::Disconnect { session }
            }
            Verb::AppRemove => {
                self.model.dismiss(&id, RemovalReason::Removed);
                Command::Remove { session }
            }
            Verb::AppHold => {
                self.model.hold(&id);
                Command::Hold { session }
            }
            Verb::AppRelease => {
                self.model.release(&id);
                Command::Release { session }
            }
            Verb::AppSubscribe => {
                self.model.subscribe(&id, name);
                Command::Subscribe { session, channel: pattern(name) }
            }
            Verb::AppUnsubscribe => {
                self.model.unsubscribe(&id, name);
                Command::Unsubscribe { session, channel: pattern(name) }
            }
            _ => {
                let setting = setting(choice);
                self.model.set(&id, setting);
                Command::SetSession { session, setting }
            }
        };
        self.command(command)
    }

    /// Several events for one session leave together.
    fn app_burst(&mut self, at: usize) -> Outcome {
        self.app_session(Verb::AppHold, at, 0)?;
        (0..BURST).try_for_each(|_| self.app_session(Verb::AppDeliver, at, 0))?;
        self.app_session(Verb::AppRelease, at, 0)
    }

    fn answer(&mut self, which: usize, allow: bool) -> Outcome {
        let open = self.ground.net.world().questions().len();
        if open == 0 {
            return Ok(());
        }
        let which = which % open;
        let question = self.ground.net.world().questions()[which].clone();
        self.model.decided(&question, allow);
        self.stats.delayed_answers += 1;
        let verdict = if allow { Verdict::allow() } else { Verdict::deny() };
        self.ground.net.act(|world| world.answer(which, verdict));
        self.observe()
    }

    fn end_asked(&mut self, which: usize, remove: bool) -> Outcome {
        let questions = self.ground.net.world().questions();
        let session =
            questions.iter().cycle().nth(which % questions.len().max(1)).and_then(|question| question.session.clone());
        let Some(session) = session else { return Ok(()) };
        let (reason, command) = if remove {
            (RemovalReason::Removed, Command::Remove { session: session.clone() })
        } else {
            (RemovalReason::ServerDisconnect, Command::Disconnect { session: session.clone() })
        };
        self.model.dismiss(session.as_str(), reason);
        self.command(command)
    }

    fn answer_late(&mut self, which: usize, allow: bool) -> Outcome {
        let stale = self.ground.net.world().stale_questions().len();
        if stale == 0 {
            return Ok(());
        }
        self.stats.delayed_answers += 1;
        let verdict = if allow { Verdict::allow() } else { Verdict::deny() };
        self.ground.net.act(|world| world.answer_late(which % stale, verdict));
        self.observe()
    }

    // Time.

    /// Lets time pass, one thing after the other.
    fn pass(&mut self, time: Duration) -> Outcome {
        let target = self.now() + time;
        let mut turns = (self.now(), 0);
        loop {
            let now = self.now();
            turns = if turns.0 == now { (now, turns.1 + 1) } else { (now, 0) };
            if turns.1 > TURNS_MAX {
                return Err("no rest: server and clients go on for ever without time passing".to_owned());
            }
            if let Some((client, alarm)) = self.ground.take_alarm(now) {
                self.clients[client].wake(&mut self.ground, alarm);
                self.observe()?;
                continue;
            }
            let due = self.ground.net.next_due();
            let next = due.into_iter().chain(self.ground.next_alarm()).min().filter(|at| *at <= target);
            let Some(next) = next else { break };
            let arrivals = if due.is_some_and(|due| due <= next) {
                self.ground.net.turn()
            } else {
                self.ground.net.act(|world| world.advance(next.since(now)));
                Vec::new()
            };
            self.observe()?;
            arrivals.into_iter().try_for_each(|arrival| self.arrive(arrival))?;
        }
        let now = self.now();
        self.ground.net.act(|world| world.advance(target.since(now)));
        self.observe()
    }

    fn arrive(&mut self, arrival: Arrival) -> Outcome {
        let Some(at) = self.clients.iter().position(|client| client.owns(&arrival)) else { return Ok(()) };
        let client = &mut self.clients[at];
        let before = client.id.clone();
        let learned = client.hear(&mut self.ground, arrival);
        let id = client.id.clone().or(before).unwrap_or_default();
        for learned in learned {
            match learned {
                Learned::Event(number) => self.model.heard(&id, number)?,
                Learned::Muddle => self.model.distrust(&id),
            }
        }
        self.observe()
    }

    /// Tells the model what happened.
    fn observe(&mut self) -> Outcome {
        for deed in self.diary.take() {
            match deed {
                Deed::Decided(question, allowed) => self.model.decided(&question, allowed),
                Deed::Dropped(to, number) => self.model.dropped(&to, number),
                Deed::Passed(to, number) => self.model.passed(&to, number),
                Deed::Delivered(to, number) => self.model.delivered_by_hook(to, number),
                Deed::Removed(session) => self.model.removed_by_hook(session),
            }
        }
        let happenings = self.ground.net.take_observed();
        self.model.observe(self.ground.net.world(), &happenings)?;
        let arrivals = self.ground.net.take_arrivals();
        arrivals.into_iter().try_for_each(|arrival| self.arrive(arrival))
    }

    // Phase two.

    /// Everything is well again, and everybody behaves.
    fn heal(&mut self) -> Outcome {
        let net = &mut self.ground.net;
        net.act(|world| world.hooks().forget());
        hooks::register(net.world().hooks(), &self.plan.setup.without_hooks(), 0);
        self.model.drops_end();
        net.heal();
        for client in &mut self.clients {
            client.wish(0);
            if let Some(wire) = client.wire {
                self.ground.net.read_again(wire);
            }
        }
        self.observe()?;
        while !self.ground.net.world().questions().is_empty() {
            self.answer(0, true)?;
        }
        for id in self.clients.iter().filter_map(|client| client.id.clone()).collect::<Vec<_>>() {
            let Some(session) = self.ground.net.world().session(&id).cloned() else { continue };
            while self.model.is_held_back(&id) {
                self.model.release(&id);
                self.command(Command::Release { session: session.clone() })?;
            }
        }
        self.pass(REST)?;
        self.check_debts()?;
        self.talk_again()
    }

    /// Whatever happened before, all clients reach each other, each message once.
    fn talk_again(&mut self) -> Outcome {
        for at in 0..self.clients.len() {
            if self.clients[at].phase == Phase::Silent {
                self.clients[at].begin(&mut self.ground);
            }
        }
        self.pass(REST)?;
        for at in 0..self.clients.len() {
            if self.clients[at].phase != Phase::Connected && self.plan.setup.get(Knob::TabInterval) > 0 {
                return Err(format!("client {at} has no session although everything is well"));
            }
            self.clients[at].subscribe(&mut self.ground, &[at as u32, 4]);
        }
        self.pass(REST / 4)?;
        for at in 0..self.clients.len() {
            self.clients[at].publish(&mut self.ground, "/a/b", 2, true);
            // Longer than lazy messages wait, so that small queues are enough.
            self.pass(REST / 4)?;
        }
        self.pass(REST)?;
        self.check_debts()
    }

    fn check_debts(&self) -> Outcome {
        let listening = |id: &str| {
            self.clients.iter().any(|client| client.phase == Phase::Connected && client.id.as_deref() == Some(id))
        };
        match self.model.debts(listening).first() {
            Some(debt) => Err(debt.clone()),
            None => Ok(()),
        }
    }

    /// The server stops: every held connect is answered, none is held any more, and sessions end by themselves. What
    /// clients do about it is no business of the model, which is not asked any more.
    fn shut_down(&mut self) -> Outcome {
        let held = self.model.held_exchanges();
        self.ground.net.act(|world| {
            world.command(Command::Shutdown);
            // As long as writes may take.
            world.advance(Duration::from_secs(1));
        });
        let world = self.ground.net.world();
        if let Some(key) = held.into_iter().find(|key| world.exchange(*key).is_held()) {
            return Err(format!("L-36: {key:?} is still held by a server that stops"));
        }
        self.ground.net.act(|world| world.advance(LONGEST_LIFE));
        match self.ground.net.world().session_count() {
            0 => Ok(()),
            left => Err(format!("L-20: {left} sessions are left in a server that stops")),
        }
    }

    /// Everybody leaves: nothing may be left behind.
    fn calm_down(&mut self) -> Outcome {
        for at in 0..self.clients.len() {
            if at % 2 == 0 {
                self.clients[at].disconnect(&mut self.ground);
            }
            self.clients[at].fall_silent();
        }
        self.pass(LONGEST_LIFE)?;
        self.model.finish()?;
        for name in ["/service/s", KEPT] {
            self.command(Command::RemoveChannel { channel: pattern(name) })?;
        }
        self.pass(LONGEST_LIFE)?;
        let world = self.ground.net.world();
        if world.session_count() > 0 {
            return Err(format!("L-20: {} sessions are left", world.session_count()));
        }
        if world.channel_count() > 0 {
            return Err(format!("A-5: {} channels are left", world.channel_count()));
        }
        if !world.questions().is_empty() {
            return Err(format!("{} questions are left", world.questions().len()));
        }
        match world.next_due() {
            Some(due) => Err(format!("something is still due: {:?}", due.since(Time::ZERO))),
            None => Ok(()),
        }
    }
}

fn setting(choice: u32) -> SessionSetting {
    let millis = |time| Some(Duration::from_millis(time));
    match choice % 9 {
        0 => SessionSetting::Timeout(millis(2_500)),
        1 => SessionSetting::Timeout(None),
        2 => SessionSetting::Interval(millis(700)),
        3 => SessionSetting::Interval(None),
        4 => SessionSetting::MaxInterval(millis(2_000)),
        5 => SessionSetting::MaxLazyTimeout(millis(400)),
        6 => SessionSetting::BroadcastToPublisher(choice & 16 == 0),
        7 => SessionSetting::MetaConnectDeliverOnly(choice & 16 == 0),
        _ => SessionSetting::MaxInterval(None),
    }
}

/// What can happen at one moment, by far.
const TURNS_MAX: usize = 20_000;

/// Events of a burst: with the larger paddings, more than one frame may have (see [`bayeux_proto::WHOLE_BATCH`]).
const BURST: u32 = 4;

/// Longer than any client waits for an answer, backs off, and tries again.
const REST: Duration = Duration::from_secs(40);

/// Longer than any session lives without a word from its client, and any unused channel.
const LONGEST_LIFE: Duration = Duration::from_secs(120);
