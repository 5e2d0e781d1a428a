//! What clients do that they should not.

use crate::swarm::client::{Client, Ground, Phase};

impl Client {
    /// A connect beside the one that is held.
    pub(super) fn connect_twice(&mut self, ground: &mut Ground) {
        if self.phase == Phase::Connected {
            let message = self.connect_message(None);
            self.send(ground, &[message]);
        }
    }

    /// A connect and a publish in one envelope (rule K-16).
    pub(super) fn connect_in_batch(&mut self, ground: &mut Ground, channel: &str) {
        if self.phase == Phase::Connected {
            let messages = [self.publication(ground, channel), self.connect_message(None)];
            self.send(ground, &messages);
        }
    }

    /// A bit of everything in one envelope.
    pub(super) fn everything(&mut self, ground: &mut Ground, channel: &str, choice: u32) {
        if self.phase != Phase::Connected {
            return;
        }
        let mut messages = vec![
            self.subscription("/meta/subscribe", &[choice]),
            self.publication(ground, channel),
            self.publication(ground, "/nothing here"),
            self.subscription("/meta/unsubscribe", &[choice + 1]),
            self.publication(ground, channel),
            self.message_as("nobody", channel, r#","data":[]"#),
        ];
        if choice & 8 != 0 {
            messages.insert(choice as usize % 4, self.message("/meta/disconnect", ""));
        }
        if choice & 16 != 0 {
            messages.push(self.connect_message(None));
        }
        self.send(ground, &messages);
    }

    /// What is no valid message, or no envelope. Whatever the errors are, `Faults` of the model knows them by its own
    /// reading of the rules.
    pub(super) fn nonsense(&mut self, ground: &mut Ground, choice: u32) {
        let bodies = [
            self.message("/a//b", r#","data":1"#),
            self.message("/a/*", r#","data":1"#),
            self.message("no slash", r#","data":1"#),
            self.message("/meta/other", ""),
            self.message("/meta/subscribe", r#","subscription":{"a":1}"#),
            self.message("/meta/subscribe", r#","subscription":[]"#),
            self.message("/meta/subscribe", r#","subscription":"/meta/connect""#),
            self.message("/meta/subscribe", r#","subscription":"/meta/else""#),
            self.message("/meta/subscribe", ""),
            self.message("/meta/unsubscribe", r#","subscription":"/meta/connect""#),
            self.message("/meta/unsubscribe", r#","subscription":"/never/was""#),
            self.message("/meta/subscribe", r#","subscription":["/a","/a//b"]"#),
            self.message("/oort/cloud", r#","data":1"#),
            self.message("/meta/connect", r#","advice":7"#),
            self.message("/a", r#","data":[],"ext":7"#),
            self.message("/a", r#","data":[]"#).replace("\"id\":\"c", "\"id\":\"<"),
            self.message("/a", r#","data":[]"#).replace("\"channel\":\"/a\"", "\"channel\":5"),
            self.message("/a", r#","data":[]"#).replace("\"channel\":\"/a\",", ""),
            format!("{},{}", self.message("/meta/handshake", ""), self.message("/a", r#","data":[]"#)),
            String::new(),
            "1".to_owned(),
            "]".to_owned(),
        ];
        if self.phase == Phase::Connected {
            let body = bodies[choice as usize % bodies.len()].clone();
            self.send(ground, &[body]);
        }
    }

    /// A message in the name of a session that is not its own, alone or behind one that is.
    pub(super) fn steal(&mut self, ground: &mut Ground, session: &str, choice: u32) {
        if self.phase != Phase::Connected {
            return;
        }
        let channel = ["/a", "/meta/connect", "/meta/subscribe", "/meta/disconnect"][choice as usize % 4];
        let more = match channel {
            "/a" => format!(r#","data":{}"#, ground.data()),
            "/meta/subscribe" => r#","subscription":"/b""#.to_owned(),
            _ => String::new(),
        };
        let stolen = self.message_as(session, channel, &more);
        if choice & 4 == 0 {
            let own = self.publication(ground, "/b");
            self.send(ground, &[own, stolen]);
        } else {
            self.send(ground, &[stolen]);
        }
    }

    /// Says that it has a batch that it has not, or has not what it has.
    pub(super) fn lie_about_ack(&mut self, choice: u32) {
        const LIES: [i64; 4] = [i64::MAX, -1, 0, 1_000];
        self.ack = self.ack.map(|_| LIES[choice as usize % LIES.len()]);
    }
}
