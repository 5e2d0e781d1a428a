//! The application of a run: it says yes, no, or that it will say so later.

use std::sync::{Arc, Mutex, PoisonError};

use bayeux_core::{Answer, ClientId, Command, Edit, Points, Question, Verdict};
use serde_json::json;

use crate::client::event;
use crate::hooks::ScriptedHooks;
use crate::random::Random;
use crate::swarm::client::event_data;
use crate::swarm::model::{LAZY_SLOW_TIMEOUT, LAZY_SOON_TIMEOUT, number_in};
use crate::swarm::setup::{Knob, Setup};
use crate::swarm::{KEPT, LAZY, LAZY_SLOW, LAZY_SOON, NARROW};

/// What the application did while it was asked.
pub(super) enum Deed {
    /// It answered at once.
    Decided(Question, bool),
    /// It kept an event from a session.
    Dropped(String, u64),
    /// It let a session have an event that it may be offered again.
    Passed(String, u64),
    /// It delivered an event to a session.
    Delivered(String, u64),
    /// It removed a session.
    Removed(String),
}

/// What the application did, for the model to know.
#[derive(Clone, Default)]
pub(super) struct Diary(Arc<Mutex<Vec<Deed>>>);

impl Diary {
    pub(super) fn take(&self) -> Vec<Deed> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, deed: Deed) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(deed);
    }
}

/// The points at which something can be decided, by their bit in a setup.
const POINTS: [Points; 9] = [
    Points::INCOMING,
    Points::HANDSHAKE,
    Points::CREATE,
    Points::SUBSCRIBE,
    Points::PUBLISH,
    Points::LISTEN,
    Points::HANDSHAKEN,
    Points::SUBSCRIBED,
    Points::UNSUBSCRIBED,
];

/// Sessions of 100 that a hook removes, of those to which it delivers something.
const REMOVED: u64 = 15;

/// Numbers of events that hooks deliver begin here.
const DELIVERED_FROM: u64 = 1 << 32;

/// Sets up the application's rules.
pub(super) fn register(hooks: &ScriptedHooks, setup: &Setup, seed: u64) -> Diary {
    let diary = Diary::default();
    let narrow = setup.channel_queue();
    hooks.on_channel_created(move |channel, settings| match channel.as_str() {
        LAZY => settings.lazy = true,
        LAZY_SOON => (settings.lazy, settings.lazy_timeout) = (true, LAZY_SOON_TIMEOUT),
        LAZY_SLOW => (settings.lazy, settings.lazy_timeout) = (true, LAZY_SLOW_TIMEOUT),
        NARROW => settings.queue = narrow,
        KEPT => settings.retained = true,
        _ => {}
    });
    let dropped = setup.get(Knob::Dropped);
    if dropped > 0 {
        let mut random = Random::new(seed ^ 0xd0);
        let book = diary.clone();
        hooks.on_outgoing(move |to, _, event| {
            let data = event.thaw().data;
            let Some(number) = data.and_then(|data| number_in(data.as_str())) else { return Edit::Keep };
            if random.percent(dropped) {
                book.note(Deed::Dropped(to.as_str().to_owned(), number));
                return Edit::Drop;
            }
            if &**event.channel() == KEPT {
                book.note(Deed::Passed(to.as_str().to_owned(), number));
            }
            if random.percent(5) { Edit::Replace(event.clone()) } else { Edit::Keep }
        });
    }
    let mut delivered = DELIVERED_FROM;
    let wanted = POINTS.iter().enumerate().filter(|(bit, _)| setup.get(Knob::HookPoints) >> bit & 1 == 1);
    let points = wanted.fold(Points::NONE, |all, (_, point)| all.with(*point));
    if points == Points::NONE {
        return diary;
    }
    let (denied, later, delivers) = (setup.get(Knob::Denied), setup.get(Knob::Later), setup.get(Knob::Delivers));
    let book = diary.clone();
    for (own, point) in (0_u64..).zip(POINTS.into_iter().filter(|point| points.contains(*point))) {
        let book = book.clone();
        hooks.on(point, move |question, effects| {
            let mut random = Random::new(seed ^ own << 50 ^ place(question));
            if random.percent(delivers)
                && let Some(to) = &question.session
            {
                if random.percent(REMOVED) {
                    book.note(Deed::Removed(to.as_str().to_owned()));
                    effects.push(Command::Remove { session: to.clone() });
                }
                book.note(Deed::Delivered(to.as_str().to_owned(), delivered | own << 40));
                effects.push(deliver(to.clone(), delivered | own << 40, 0));
                delivered += 1;
            }
            if random.percent(later) {
                return Some(Answer::Later);
            }
            let allowed = !random.percent(denied);
            book.note(Deed::Decided(question.clone(), allowed));
            Some(Answer::Now(if allowed { Verdict::allow() } else { Verdict::deny() }))
        });
    }
    diary
}

/// Delivers an event to one session, with so many bytes beside its number.
pub(super) fn deliver(to: ClientId, number: u64, padding: usize) -> Command {
    let data = serde_json::from_str(&event_data(number, padding)).unwrap_or_else(|_| json!([]));
    Command::Deliver { to, event: event("/private", &data), from: None }
}

/// A number for the message that a question is about, whatever else happens in the run.
fn place(question: &Question) -> u64 {
    let message = &question.message;
    let data = message.data.as_ref().map(|data| data.as_str().as_bytes()).unwrap_or_default();
    let id = format!("{:?}", message.id);
    let bytes = id.bytes().chain(data.iter().copied().take(24));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
