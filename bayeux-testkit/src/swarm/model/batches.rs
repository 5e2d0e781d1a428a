//! Batches: what was sent with which, and what a client has (section XA).

use std::collections::BTreeMap;

use bayeux_proto::{AckReply, Outgoing, Reply, meta};

use super::facts;
use super::lines::Request;
use super::{Model, Verdict};

/// How an event was sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The batches since it was first sent: whether each had it.
    batches: BTreeMap<u64, bool>,
    /// Its client has said that it has it.
    acknowledged: bool,
}

impl Sent {
    /// Whether who has that batch, and may have no earlier one, has the event.
    fn is_in(&self, batch: u64) -> bool {
        self.batches.range(..=batch).next_back().is_some_and(|(_, had)| *had)
    }

    /// Whether the last batch had no room for it.
    fn is_put_off(&self) -> bool {
        !self.is_in(u64::MAX)
    }
}

impl Model {
    /// A connect of a session was answered: batch numbers count up by one with each reply (rules XA-1, XA-4).
    pub(super) fn check_batch(&mut self, id: &str, reply: &Reply, messages: &[Outgoing]) -> Verdict {
        let (leaving, in_parts) = (self.is_leaving(id), self.in_parts);
        let Some(session) = self.sessions.get_mut(id) else { return Ok(()) };
        match (reply.ack, session.ack, leaving) {
            (Some(AckReply::Batch(batch)), true, _)
                if batch == session.batch + 1 || session.forget_batches || in_parts =>
            {
                session.batch = batch;
                session.forget_batches = false;
                if reply.successful && !in_parts {
                    self.note_batch(id, batch, reply, messages);
                }
                Ok(())
            }
            (None, false, _) | (None, true, true) => Ok(()),
            // One that was refused before anybody looked at its session has no number.
            (None, true, false) if !reply.successful => Ok(()),
            (ack, ..) => {
                Err(format!("XA-4: a connect of {id} was answered with {ack:?} after batch {}", session.batch))
            }
        }
    }

    /// The events before a connect's reply are its batch; of those that came before, and are not acknowledged, others had
    /// no room in it (rule XA-5).
    fn note_batch(&mut self, id: &str, batch: u64, reply: &Reply, messages: &[Outgoing]) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let mut numbers = Vec::new();
        for message in messages {
            match message {
                Outgoing::Event(event) => {
                    let data = event.thaw().data;
                    numbers.extend(data.and_then(|data| facts::number_in(data.as_str())));
                }
                Outgoing::Reply(other) if std::ptr::eq(other.as_ref(), reply) => break,
                Outgoing::Reply(other) if other.channel.as_deref() == Some(meta::CONNECT) => numbers.clear(),
                Outgoing::Reply(_) => {}
            }
        }
        for (number, sent) in session.sent.iter_mut().filter(|(_, sent)| !sent.acknowledged) {
            sent.batches.insert(batch, numbers.contains(number));
        }
        for number in numbers {
            session.sent.entry(number).or_default().batches.insert(batch, true);
        }
    }

    /// A connect came, or was processed: its client has everything up to a batch (rule XA-7).
    pub(super) fn note_acknowledged(&mut self, id: &str, request: &Request) {
        let batch = request.acknowledges.map_or(0, |batch| u64::try_from(batch).unwrap_or(0));
        if let Some(session) = self.sessions.get_mut(id) {
            session.sent.values_mut().for_each(|sent| sent.acknowledged |= sent.is_in(batch));
        }
    }

    /// A connect is held: its client lacks nothing that was sent, unless it has asked for a timeout itself, and then
    /// nothing that was put off (rule XA-8).
    pub(super) fn check_nothing_lacks(&self, id: &str, request: &Request) -> Verdict {
        let Some(session) = self.sessions.get(id) else { return Ok(()) };
        // What waits behind something else may be due, and leave with the end of that.
        let known =
            session.overflowed.is_none() && session.holds == 0 && self.transports_under_way(id).next().is_none();
        let (timeout, _) = request.wish(self.config.max_client_interval);
        let lacks = |sent: &Sent| !sent.acknowledged && (timeout.is_none() || sent.is_put_off());
        match session.sent.iter().find(|(_, sent)| lacks(sent)).filter(|_| known) {
            Some((number, _)) => Err(format!("XA-8: a connect of {id} is held, and its client lacks event {number}")),
            None => Ok(()),
        }
    }
}
