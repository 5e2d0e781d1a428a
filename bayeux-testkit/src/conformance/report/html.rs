//! The report as a page.

use super::Report;

impl Report {
    /// The report as one HTML file.
    pub fn html(&self) -> String {
        String::new()
    }
}
