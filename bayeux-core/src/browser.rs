//! Browsers: how many sessions and held connects each has (rules TH-11, TH-22, TH-30).

use std::collections::HashMap;

use crate::id::BrowserId;

#[derive(Default)]
struct Browser {
    sessions: usize,
    held: usize,
}

/// All browsers that have a session.
#[derive(Default)]
pub(crate) struct Browsers {
    by_id: HashMap<BrowserId, Browser>,
}

impl Browsers {
    pub(crate) fn add_session(&mut self, id: &BrowserId) {
        self.by_id.entry(id.clone()).or_default().sessions += 1;
    }

    /// Forgets the browser with its last session (rule TH-22).
    pub(crate) fn remove_session(&mut self, id: &BrowserId) {
        if let Some(browser) = self.by_id.get_mut(id) {
            browser.sessions = browser.sessions.saturating_sub(1);
            if browser.sessions == 0 {
                self.by_id.remove(id);
            }
        }
    }

    /// Counts one more held connect, unless it would exceed `limit`; a negative limit never is (rules TH-30, O-25).
    pub(crate) fn try_hold(&mut self, id: &BrowserId, limit: i32) -> bool {
        let Some(browser) = self.by_id.get_mut(id) else { return true };
        if usize::try_from(limit).is_ok_and(|limit| browser.held >= limit) {
            return false;
        }
        browser.held += 1;
        true
    }

    /// A hold ended, in whatever way (rule TH-33).
    pub(crate) fn end_hold(&mut self, id: &BrowserId) {
        if let Some(browser) = self.by_id.get_mut(id) {
            browser.held = browser.held.saturating_sub(1);
        }
    }
}
