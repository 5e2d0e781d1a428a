//! Hooks that a test writes while the engines run.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use bayeux_core::{Answer, ChannelSettings, ClientId, Command, Edit, Hooks, Points, Question, QueueView, Verdict};
use bayeux_proto::{ChannelPattern, Event, Frozen, Reply};

/// Decides at a point, or passes with `None` to the rule registered before it.
type AskRule = Box<dyn FnMut(&Question, &mut Vec<Command>) -> Option<Answer> + Send>;
type OutgoingRule = Box<dyn FnMut(&ClientId, Option<&ClientId>, &Frozen) -> Edit<Frozen> + Send>;
type SendRule = Box<dyn FnMut(Option<&ClientId>, Option<&ClientId>, &mut Event) -> bool + Send>;
type CreatedRule = Box<dyn FnMut(&ChannelPattern, &mut ChannelSettings) + Send>;
type QueueRule = Box<dyn FnMut(&ClientId, &mut QueueView<'_>) + Send>;
type MaxedRule = Box<dyn FnMut(&ClientId, &mut QueueView<'_>, &Frozen) -> bool + Send>;
type ReplyRule = Box<dyn FnMut(Option<&ClientId>, &mut Reply) -> Edit<()> + Send>;

/// The application of a [`World`](crate::World): one set of rules, asked by all of its engines.
///
/// Rules may be added at any time between steps. The newest that has an opinion decides; with none, everything is
/// allowed. Cloning gives another handle to the same rules.
#[derive(Clone, Default)]
pub struct ScriptedHooks(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    points: Points,
    ask: Vec<(Points, AskRule)>,
    send: Option<SendRule>,
    created: Option<CreatedRule>,
    outgoing: Option<OutgoingRule>,
    reply: Option<ReplyRule>,
    queued: Option<QueueRule>,
    dequeue: Option<QueueRule>,
    maxed: Option<MaxedRule>,
    asked: Vec<Question>,
}

impl ScriptedHooks {
    /// Registers at `points`, for what else belongs to them: notices of subscriptions, channels and heartbeats.
    pub fn watch(&self, points: Points) {
        let mut book = self.book();
        book.points = book.points.with(points);
    }

    /// Adds a rule for the questions of `points`.
    pub fn on(
        &self,
        points: Points,
        rule: impl FnMut(&Question, &mut Vec<Command>) -> Option<Answer> + Send + 'static,
    ) {
        let mut book = self.book();
        book.points = book.points.with(points);
        book.ask.push((points, Box::new(rule)));
    }

    /// Answers every question of `points` with `verdict`.
    pub fn always(&self, points: Points, verdict: Verdict) {
        self.on(points, move |_, _| Some(Answer::Now(verdict.clone())));
    }

    /// Makes every question of `points` wait for [`World::answer`](crate::World::answer).
    pub fn wait(&self, points: Points) {
        self.on(points, |_, _| Some(Answer::Later));
    }

    /// Sets the rule for events before they are encoded: sender, the one recipient of a delivery, event.
    pub fn on_send(&self, rule: impl FnMut(Option<&ClientId>, Option<&ClientId>, &mut Event) -> bool + Send + 'static) {
        let mut book = self.book();
        book.points = book.points.with(Points::SEND);
        book.send = Some(Box::new(rule));
    }

    /// Sets the rule for channels that are being created.
    pub fn on_channel_created(&self, rule: impl FnMut(&ChannelPattern, &mut ChannelSettings) + Send + 'static) {
        let mut book = self.book();
        book.points = book.points.with(Points::CHANNEL_CREATED);
        book.created = Some(Box::new(rule));
    }

    /// Sets the rule for events on their way to one recipient.
    pub fn on_outgoing(
        &self,
        rule: impl FnMut(&ClientId, Option<&ClientId>, &Frozen) -> Edit<Frozen> + Send + 'static,
    ) {
        let mut book = self.book();
        book.points = book.points.with(Points::OUTGOING);
        book.outgoing = Some(Box::new(rule));
    }

    /// Sets the rule for replies on their way out.
    pub fn on_reply(&self, rule: impl FnMut(Option<&ClientId>, &mut Reply) -> Edit<()> + Send + 'static) {
        let mut book = self.book();
        book.points = book.points.with(Points::REPLY);
        book.reply = Some(Box::new(rule));
    }

    /// Sets the rule for queues that something was added to.
    pub fn on_queued(&self, rule: impl FnMut(&ClientId, &mut QueueView<'_>) + Send + 'static) {
        let mut book = self.book();
        book.points = book.points.with(Points::QUEUED);
        book.queued = Some(Box::new(rule));
    }

    /// Sets the rule for queues that are about to be sent.
    pub fn on_dequeue(&self, rule: impl FnMut(&ClientId, &mut QueueView<'_>) + Send + 'static) {
        let mut book = self.book();
        book.points = book.points.with(Points::DEQUEUE);
        book.dequeue = Some(Box::new(rule));
    }

    /// Sets the rule for queues that have no room for an event.
    pub fn on_queue_maxed(&self, rule: impl FnMut(&ClientId, &mut QueueView<'_>, &Frozen) -> bool + Send + 'static) {
        let mut book = self.book();
        book.points = book.points.with(Points::QUEUE_MAXED);
        book.maxed = Some(Box::new(rule));
    }

    /// Forgets all rules. What is registered at points stays.
    pub fn forget(&self) {
        let mut book = self.book();
        book.ask.clear();
        book.send = None;
        book.created = None;
        book.outgoing = None;
        book.reply = None;
        (book.queued, book.dequeue, book.maxed) = (None, None, None);
    }

    /// Takes the questions asked since the last call, in order.
    pub fn take_asked(&self) -> Vec<Question> {
        std::mem::take(&mut self.book().asked)
    }

    /// Whether replies may be changed or dropped, so that no request can be sure of its reply.
    pub(crate) fn edits_replies(&self) -> bool {
        self.book().reply.is_some()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("no rule panicked")
    }
}

impl Hooks for ScriptedHooks {
    fn points(&self) -> Points {
        self.book().points
    }

    fn ask(&self, question: &Question, effects: &mut Vec<Command>) -> Answer {
        let flag = question.point.flag();
        let mut book = self.book();
        assert!(book.points.contains(flag), "asked at {:?} where nothing is registered", question.point);
        book.asked.push(question.clone());
        let rules = book.ask.iter_mut().rev().filter(|(points, _)| points.contains(flag));
        rules.filter_map(|(_, rule)| rule(question, effects)).next().unwrap_or(Answer::Now(Verdict::allow()))
    }

    fn send(&self, from: Option<&ClientId>, to: Option<&ClientId>, event: &mut Event) -> bool {
        self.book().send.as_mut().is_none_or(|rule| rule(from, to, event))
    }

    fn channel_created(&self, channel: &ChannelPattern, settings: &mut ChannelSettings) {
        if let Some(rule) = self.book().created.as_mut() {
            rule(channel, settings);
        }
    }

    fn outgoing(&self, to: &ClientId, from: Option<&ClientId>, event: &Frozen) -> Edit<Frozen> {
        self.book().outgoing.as_mut().map_or(Edit::Keep, |rule| rule(to, from, event))
    }

    fn queued(&self, to: &ClientId, queue: &mut QueueView<'_>) {
        if let Some(rule) = self.book().queued.as_mut() {
            rule(to, queue);
        }
    }

    fn dequeue(&self, to: &ClientId, queue: &mut QueueView<'_>) {
        if let Some(rule) = self.book().dequeue.as_mut() {
            rule(to, queue);
        }
    }

    fn queue_maxed(&self, to: &ClientId, _: Option<&ClientId>, queue: &mut QueueView<'_>, event: &Frozen) -> bool {
        self.book().maxed.as_mut().is_none_or(|rule| rule(to, queue, event))
    }

    fn reply(&self, to: Option<&ClientId>, reply: &mut Reply) -> Edit<()> {
        self.book().reply.as_mut().map_or(Edit::Keep, |rule| rule(to, reply))
    }
}

impl fmt::Debug for ScriptedHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedHooks").finish_non_exhaustive()
    }
}
