//! Who is in which room: data and rules, no I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

/// Rooms that may exist at once.
const ROOMS_MAX: usize = 1_000;
/// Sessions in one room. Each change publishes the whole list to the room, so that this bounds the square.
const MEMBERS_MAX: usize = 500;
/// Rooms that one session may be in.
const ROOMS_PER_SESSION_MAX: usize = 16;
/// Characters of a user's name, and of a room's.
const NAME_MAX: usize = 64;
/// Names in the `peer` of one private message.
const PEERS_MAX: usize = 50;

/// Who is where. Session ids are `clientId`s.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    /// Room to session to user name.
    rooms: BTreeMap<String, BTreeMap<String, String>>,
    /// Session to the rooms it is in.
    sessions: HashMap<String, BTreeSet<String>>,
    /// Rooms whose list changed since it was published.
    changed: BTreeSet<String>,
}

/// What a client sends to `/service/members`.
#[derive(Debug, Deserialize)]
pub(crate) struct Membership {
    user: String,
    room: String,
}

/// What a client sends to `/service/privatechat`. Its `user` is not read.
#[derive(Debug, Deserialize)]
pub(crate) struct PrivateChat {
    room: String,
    chat: String,
    peer: String,
}

/// Names to publish.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Members {
    /// Where: `/members/{room}`.
    pub(crate) channel: String,
    /// Sorted, each once.
    pub(crate) names: Vec<String>,
}

/// What joining a room leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// The list is different: everybody is to be told.
    Changed,
    /// It is not: tell the one who asked.
    Unchanged(Members),
}

/// A private message to deliver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Private {
    /// On which channel: `/chat/{room}`.
    pub(crate) channel: String,
    /// To which sessions, the sender's included.
    pub(crate) sessions: BTreeSet<String>,
    /// What.
    pub(crate) data: PrivateData,
}

/// The data of a private message.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PrivateData {
    user: String,
    chat: String,
    scope: &'static str,
    peer: String,
}

/// Why a request is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no name for a user")]
    Name,
    #[error("no name for a room")]
    Room,
    #[error("too many rooms or members")]
    Full,
    #[error("the sender is not in the room")]
    NotAMember,
    #[error("too many peers")]
    TooManyPeers,
}

impl Rooms {
    /// Makes `session` a member, or changes its name.
    pub(crate) fn join(&mut self, session: &str, request: &Membership) -> Result<Joined, Refusal> {
        let user = user_name(&request.user)?;
        let room = room_name(&request.room)?;
        if let Some(members) = self.rooms.get(room) {
            match members.get(session) {
                Some(known) if known == user => return Ok(Joined::Unchanged(self.members(room))),
                None if members.len() >= MEMBERS_MAX => return Err(Refusal::Full),
                Some(_) | None => {}
            }
        } else if self.rooms.len() >= ROOMS_MAX || self.changed.len() >= 2 * ROOMS_MAX {
            return Err(Refusal::Full);
        }
        let rooms = self.sessions.entry(session.to_owned()).or_default();
        if !rooms.contains(room) && rooms.len() >= ROOMS_PER_SESSION_MAX {
            return Err(Refusal::Full);
        }
        rooms.insert(room.to_owned());
        let members = self.rooms.entry(room.to_owned()).or_default();
        members.insert(session.to_owned(), user.to_owned());
        self.changed.insert(room.to_owned());
        Ok(Joined::Changed)
    }

    /// Ends all memberships of a session that is no more; says whether it had any.
    pub(crate) fn leave_all(&mut self, session: &str) -> bool {
        let rooms = self.sessions.remove(session).unwrap_or_default();
        for room in &rooms {
            self.remove(session, room);
        }
        !rooms.is_empty()
    }

    /// Ends one membership, because the session unsubscribed from `channel`, `/chat/{room}`; says whether there was one.
    pub(crate) fn leave(&mut self, session: &str, channel: &str) -> bool {
        let Some(room) = channel.strip_prefix("/chat/") else { return false };
        let Some(rooms) = self.sessions.get_mut(session) else { return false };
        if !rooms.remove(room) {
            return false;
        }
        if rooms.is_empty() {
            self.sessions.remove(session);
        }
        self.remove(session, room);
        true
    }

    /// The lists that changed since the last call, without the sessions that `is_alive` does not know any more: a
    /// request that was under way when its session ended may have joined it after it left.
    pub(crate) fn take_changed(&mut self, is_alive: impl Fn(&str) -> bool) -> Vec<Members> {
        let changed = std::mem::take(&mut self.changed);
        let members = changed.iter().filter_map(|room| self.rooms.get(room)).flat_map(BTreeMap::keys);
        let gone: BTreeSet<String> = members.filter(|session| !is_alive(session)).cloned().collect();
        for session in &gone {
            self.leave_all(session);
        }
        changed.into_iter().map(|room| self.members(&room)).collect()
    }

    /// Finds the recipients of a private message; `None` where none of the peers is in the room.
    pub(crate) fn private(&self, sender: &str, request: PrivateChat) -> Result<Option<Private>, Refusal> {
        let room = room_name(&request.room)?;
        let members = self.rooms.get(room).ok_or(Refusal::NotAMember)?;
        let user = members.get(sender).ok_or(Refusal::NotAMember)?;
        let peers: BTreeSet<&str> = request.peer.split(',').map(str::trim).filter(|peer| !peer.is_empty()).collect();
        if peers.len() > PEERS_MAX {
            return Err(Refusal::TooManyPeers);
        }
        let named = members.iter().filter(|(_, name)| peers.contains(name.as_str()));
        let mut sessions: BTreeSet<String> = named.map(|(session, _)| session.clone()).collect();
        if sessions.is_empty() {
            return Ok(None);
        }
        sessions.insert(sender.to_owned());
        let data = PrivateData { user: user.clone(), chat: request.chat, scope: "private", peer: request.peer };
        Ok(Some(Private { channel: format!("/chat/{room}"), sessions, data }))
    }

    fn remove(&mut self, session: &str, room: &str) {
        if let Some(members) = self.rooms.get_mut(room) {
            members.remove(session);
            if members.is_empty() {
                self.rooms.remove(room);
            }
        }
        self.changed.insert(room.to_owned());
    }

    fn members(&self, room: &str) -> Members {
        let names: BTreeSet<&String> = self.rooms.get(room).into_iter().flat_map(BTreeMap::values).collect();
        Members { channel: format!("/members/{room}"), names: names.into_iter().cloned().collect() }
    }
}

/// A name that can be shown, and be one of several in a `peer`.
fn user_name(text: &str) -> Result<&str, Refusal> {
    let name = text.trim();
    let fits = !name.is_empty() && name.chars().count() <= NAME_MAX;
    if fits && !name.contains(|c: char| c == ',' || c.is_control()) { Ok(name) } else { Err(Refusal::Name) }
}

/// The room of `demo` or `/chat/demo`; what it yields can be the end of a channel's name.
fn room_name(text: &str) -> Result<&str, Refusal> {
    let room = text.strip_prefix("/chat/").unwrap_or(text);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_!~()$@/".contains(c);
    let segments = || room.split('/');
    if room.len() <= NAME_MAX && room.chars().all(allowed) && segments().all(|segment| !segment.is_empty()) {
        Ok(room)
    } else {
        Err(Refusal::Room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(rooms: &mut Rooms, session: &str, user: &str, room: &str) -> Result<Joined, Refusal> {
        rooms.join(session, &Membership { user: user.into(), room: room.into() })
    }

    fn changed(rooms: &mut Rooms) -> Vec<Members> {
        rooms.take_changed(|_| true)
    }

    fn members(room: &str, names: &[&str]) -> Members {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Members { channel: format!("/members/{room}"), names }
    }

    fn private(peer: &str) -> PrivateChat {
        PrivateChat { room: "demo".into(), chat: "hi".into(), peer: peer.into() }
    }

    #[test]
    fn members_are_listed_under_both_spellings_of_a_room() {
        let mut rooms = Rooms::default();
        assert_eq!(join(&mut rooms, "1", "bob", "demo"), Ok(Joined::Changed));
        assert_eq!(changed(&mut rooms), [members("demo", &["bob"])]);
        assert_eq!(join(&mut rooms, "2", "alice", "/chat/demo"), Ok(Joined::Changed));
        assert_eq!(changed(&mut rooms), [members("demo", &["alice", "bob"])]);
        assert_eq!(changed(&mut rooms), []);
    }

    #[test]
    fn the_end_of_a_session_ends_its_memberships() {
        let mut rooms = Rooms::default();
        for (session, user, room) in [("1", "bob", "a"), ("1", "bob", "b"), ("2", "alice", "b")] {
            assert_eq!(join(&mut rooms, session, user, room), Ok(Joined::Changed));
        }
        changed(&mut rooms);
        assert!(rooms.leave_all("1"));
        assert_eq!(changed(&mut rooms), [members("a", &[]), members("b", &["alice"])]);
        assert!(!rooms.leave_all("1"));
        assert!(rooms.leave_all("2"));
        changed(&mut rooms);
        assert!(rooms.rooms.is_empty() && rooms.sessions.is_empty(), "nothing is kept of empty rooms");
    }

    #[test]
    fn unsubscribing_from_a_room_ends_the_membership_there() {
        let mut rooms = Rooms::default();
        assert_eq!(join(&mut rooms, "1", "bob", "a"), Ok(Joined::Changed));
        assert!(!rooms.leave("1", "/members/a"));
        assert!(!rooms.leave("1", "/chat/b"));
        assert!(rooms.leave("1", "/chat/a"));
        assert!(rooms.rooms.is_empty() && rooms.sessions.is_empty());
    }

    #[test]
    fn a_session_that_joined_after_its_end_is_left_out() {
        let mut rooms = Rooms::default();
        assert_eq!(join(&mut rooms, "gone", "bob", "a"), Ok(Joined::Changed));
        assert_eq!(join(&mut rooms, "here", "alice", "a"), Ok(Joined::Changed));
        assert_eq!(rooms.take_changed(|session| session == "here"), [members("a", &["alice"])]);
    }

    #[test]
    fn a_page_loaded_anew_keeps_its_name_in_the_list() {
        let mut rooms = Rooms::default();
        assert_eq!(join(&mut rooms, "old", "bob", "demo"), Ok(Joined::Changed));
        assert_eq!(join(&mut rooms, "new", "bob", "demo"), Ok(Joined::Changed));
        assert_eq!(changed(&mut rooms), [members("demo", &["bob"])], "once");
        assert!(rooms.leave_all("old"));
        assert_eq!(changed(&mut rooms), [members("demo", &["bob"])]);
        let list = members("demo", &["bob"]);
        assert_eq!(join(&mut rooms, "new", "bob", "demo"), Ok(Joined::Unchanged(list)));
        assert_eq!(join(&mut rooms, "new", "rob", "demo"), Ok(Joined::Changed));
        assert_eq!(changed(&mut rooms), [members("demo", &["rob"])], "a new name replaces the old");
    }

    #[test]
    fn private_messages_reach_peers_and_sender_only() {
        let mut rooms = Rooms::default();
        for (session, user) in [("1", "bob"), ("2", "alice"), ("3", "carol"), ("4", "dave")] {
            assert_eq!(join(&mut rooms, session, user, "demo"), Ok(Joined::Changed));
        }
        let message = rooms.private("1", private("alice, carol,nobody")).expect("a member").expect("peers are there");
        assert_eq!(message.channel, "/chat/demo");
        assert_eq!(message.sessions, BTreeSet::from(["1".into(), "2".into(), "3".into()]));
        let data = serde_json::to_string(&message.data).expect("texts");
        assert_eq!(data, r#"{"user":"bob","chat":"hi","scope":"private","peer":"alice, carol,nobody"}"#);
        assert_eq!(rooms.private("1", private("nobody")), Ok(None));
        assert_eq!(rooms.private("5", private("alice")), Err(Refusal::NotAMember));
    }

    #[test]
    fn the_name_a_session_joined_with_is_the_one_that_counts() {
        let mut rooms = Rooms::default();
        assert_eq!(join(&mut rooms, "1", "mallory", "demo"), Ok(Joined::Changed));
        assert_eq!(join(&mut rooms, "2", "bob", "demo"), Ok(Joined::Changed));
        let forged = r#"{"room":"/chat/demo","user":"alice","chat":"hi","peer":"bob"}"#;
        let request: PrivateChat = serde_json::from_str(forged).expect("it has all fields");
        let message = rooms.private("1", request).expect("a member").expect("bob is there");
        assert_eq!(message.data.user, "mallory");
    }

    #[test]
    fn names_are_checked() {
        let mut rooms = Rooms::default();
        for user in ["", "  ", "a,b", "a\nb", &"x".repeat(65)] {
            assert_eq!(join(&mut rooms, "1", user, "demo"), Err(Refusal::Name), "{user:?}");
        }
        for room in ["", "/chat/", "a//b", "*", "a/**", "a b", "/members/x", &"x".repeat(65)] {
            assert_eq!(join(&mut rooms, "1", "bob", room), Err(Refusal::Room), "{room:?}");
        }
        assert!(rooms.sessions.is_empty());
    }

    #[test]
    fn nobody_can_grow_the_rooms_without_bound() {
        let mut rooms = Rooms::default();
        for number in 0..ROOMS_PER_SESSION_MAX {
            assert_eq!(join(&mut rooms, "1", "bob", &format!("room{number}")), Ok(Joined::Changed));
        }
        assert_eq!(join(&mut rooms, "1", "bob", "another"), Err(Refusal::Full));
        for number in 0..MEMBERS_MAX {
            assert_eq!(join(&mut rooms, &format!("s{number}"), "x", "crowd"), Ok(Joined::Changed));
        }
        assert_eq!(join(&mut rooms, "late", "x", "crowd"), Err(Refusal::Full));
        let mut number = 0;
        while join(&mut rooms, &format!("t{number}"), "x", &format!("own{number}")) == Ok(Joined::Changed) {
            number += 1;
        }
        assert_eq!(rooms.rooms.len(), ROOMS_MAX);
        assert!(!rooms.sessions.contains_key("late"), "a refused session leaves nothing behind");
        // Rooms that come and go while nothing is published.
        for number in 0..4 * ROOMS_MAX {
            rooms.leave_all("t0");
            let _ = join(&mut rooms, "t0", "x", &format!("passing{number}"));
        }
        assert!(rooms.changed.len() <= 3 * ROOMS_MAX);
    }
}
