//! Browsers: how many sessions and held connects each has (rules TH-11, TH-22, TH-30).

use std::collections::HashMap;

use crate::id::BrowserId;
use crate::lane::same_secret;
use crate::slab::{Key, Slab};

pub(crate) struct Browser {
    id: BrowserId,
    sessions: usize,
    held: usize,
}

/// Names a browser that has a session. Connects are held and answered by it, without a look at the id.
pub(crate) type BrowserKey = Key<Browser>;

/// All browsers that have a session.
pub(crate) struct Browsers {
    all: Slab<Browser>,
    by_id: HashMap<BrowserId, BrowserKey>,
}

impl Browsers {
    pub(crate) fn new() -> Self {
        Self { all: Slab::new(), by_id: HashMap::new() }
    }

    pub(crate) fn add_session(&mut self, id: &BrowserId) -> BrowserKey {
        let all = &mut self.all;
        let add = || all.insert(Browser { id: id.clone(), sessions: 0, held: 0 });
        let key = *self.by_id.entry(id.clone()).or_insert_with(add);
        if let Some(browser) = self.all.get_mut(key) {
            browser.sessions += 1;
        }
        key
    }

    /// Forgets the browser with its last session (rule TH-22).
    pub(crate) fn remove_session(&mut self, key: Option<BrowserKey>) {
        if let Some((key, browser)) = key.and_then(|key| Some((key, self.all.get_mut(key)?))) {
            browser.sessions = browser.sessions.saturating_sub(1);
            if browser.sessions == 0 {
                self.by_id.remove(&browser.id);
                self.all.remove(key);
            }
        }
    }

    /// Its id, as its cookie has it.
    pub(crate) fn id(&self, key: Option<BrowserKey>) -> Option<&BrowserId> {
        Some(&self.all.get(key?)?.id)
    }

    /// Whether it is the one that a request says it is from (rule TH-11).
    pub(crate) fn is(&self, key: Option<BrowserKey>, theirs: &BrowserId) -> bool {
        self.id(key).is_some_and(|ours| same_secret(ours.as_str(), theirs.as_str()))
    }

    /// Counts one more held connect, unless it would exceed `limit`; a negative limit never is (rules TH-30, O-25).
    pub(crate) fn try_hold(&mut self, key: Option<BrowserKey>, limit: i32) -> bool {
        let Some(browser) = key.and_then(|key| self.all.get_mut(key)) else { return true };
        if usize::try_from(limit).is_ok_and(|limit| browser.held >= limit) {
            return false;
        }
        browser.held += 1;
        true
    }

    /// A hold ended, in whatever way (rule TH-33).
    pub(crate) fn end_hold(&mut self, key: Option<BrowserKey>) {
        if let Some(browser) = key.and_then(|key| self.all.get_mut(key)) {
            browser.held = browser.held.saturating_sub(1);
        }
    }
}
