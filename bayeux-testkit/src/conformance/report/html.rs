//! The report as a page: one file that needs nothing else, and no script to be read.

use std::fmt::Write;

use super::super::case::{Profile, Transport};
use super::super::transcript::{Direction, Line};
use super::{Count, Report, Run, Summary, Tested, Verdict, wire};

impl Report {
    /// The report as one HTML file.
    pub fn html(&self) -> String {
        let mut page = String::with_capacity(1 << 16);
        let target = escape(&self.target);
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Bayeux conformance of {target}</title>\n<style>\n{}</style>\n</head>\n<body>\n",
            include_str!("page.css")
        );
        self.lead(&mut page);
        self.cards(&mut page);
        self.facts(&mut page);
        page.push_str(TOOLS);
        let transports: Vec<Transport> =
            Transport::ALL.into_iter().filter(|transport| self.server.transports.contains(transport)).collect();
        for family in self.families() {
            section(&mut page, family, &transports);
        }
        let _ = write!(page, "<script>\n{}</script>\n</body>\n</html>\n", include_str!("page.js"));
        page
    }

    fn lead(&self, page: &mut String) {
        let total = |is: fn(&Count) -> usize| -> usize { Profile::ALL.iter().map(|p| is(&self.count(*p))).sum() };
        let (failed, musts) = (total(|count| count.failed), self.count(Profile::Bayeux).failed);
        let (class, verdict) = match (musts, failed + self.outdated.len()) {
            (0, 0) if total(|count| count.expected) > 0 => ("good", "as expected".to_owned()),
            (0, 0) => ("good", "conforming".to_owned()),
            (0, n) => ("known", format!("{n} to look at")),
            (1, _) => ("bad", "1 promise that every server must keep is broken".to_owned()),
            (n, _) => ("bad", format!("{n} promises that every server must keep are broken")),
        };
        let _ = write!(
            page,
            "<h1>{}</h1>\n<p class=\"lead\"><span class=\"verdict {class}\">{verdict}</span> \
             checked by <code>bayeux check</code> on {}, in {:.1} s</p>\n",
            escape(&self.target),
            date(self.started),
            self.millis as f64 / 1000.0
        );
    }

    fn cards(&self, page: &mut String) {
        page.push_str("<div class=\"cards\">\n");
        for (profile, what) in [
            (Profile::Bayeux, "what Bayeux 1.0 demands of every server"),
            (Profile::Cometd, "what CometD does and its clients rely on"),
            (Profile::Ours, "what this project promises beyond that"),
        ] {
            let count = self.count(profile);
            if count != Count::default() {
                card(page, profile.name(), what, count);
            }
        }
        page.push_str("</div>\n");
    }

    fn facts(&self, page: &mut String) {
        let server = &self.server;
        let runs = server.transports.iter().map(|transport| {
            let count = self.count_over(*transport);
            let of = count.passed + count.failed + count.expected;
            format!("{} ({} of {of} passed)", transport.name(), count.passed)
        });
        let mut facts = vec![
            ("Transports", runs.collect::<Vec<_>>().join(", ")),
            ("Not offered", server.refusals.join("; ")),
            ("Extensions", server.extensions.join(", ")),
        ];
        if let Some(timeout) = server.timeout {
            facts.push(("Timeout", format!("{timeout} ms")));
        }
        facts.extend(self.outdated.iter().map(|outdated| ("Not as expected", outdated.clone())));
        page.push_str("<dl class=\"facts\">\n");
        for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escape(value));
        }
        page.push_str("</dl>\n");
    }
}

/// Shown by the script that it needs.
const TOOLS: &str = r#"<div class="tools" hidden>
<input type="search" placeholder="Filter by id, rule, words" aria-label="Filter">
<button value="" aria-pressed="true">All</button>
<button value="failed" aria-pressed="false">Failed</button>
<button value="expected" aria-pressed="false">Known</button>
<button value="passed" aria-pressed="false">Passed</button>
<button value="skipped" aria-pressed="false">Skipped</button>
</div>
"#;

fn card(page: &mut String, name: &str, what: &str, count: Count) {
    let total = (count.passed + count.failed + count.expected + count.skipped).max(1) as f64;
    let part = |class: &str, part: usize| {
        format!("<i class=\"{class}\" style=\"width:{:.2}%\"></i>", 100.0 * part as f64 / total)
    };
    let _ = writeln!(
        page,
        "<div class=\"card\"><b>{name}</b><p>{what}</p><div class=\"bar\">{}{}{}</div>\
         <div class=\"figures\">{} passed, {} failed, {} known, {} skipped</div></div>",
        part("passed", count.passed),
        part("failed", count.failed),
        part("expected", count.expected),
        count.passed,
        count.failed,
        count.expected,
        count.skipped
    );
}

fn section(page: &mut String, family: &[Tested], transports: &[Transport]) {
    let passed = family.iter().filter(|case| case.summary() == Summary::Passed).count();
    let name = &family[0].family;
    let _ = writeln!(page, "<section><h2>{} <small>{passed} of {}</small></h2>", escape(name), family.len());
    page.push_str("<div class=\"scroll\"><table><thead><tr><th>Promise</th><th>Profile</th>");
    for transport in transports {
        let _ = write!(page, "<th class=\"mark\">{}</th>", transport.name());
    }
    page.push_str("</tr></thead><tbody>\n");
    for case in family {
        row(page, case, transports);
    }
    page.push_str("</tbody></table></div></section>\n");
}

fn class(summary: Summary) -> &'static str {
    match summary {
        Summary::Passed => "passed",
        Summary::Failed => "failed",
        Summary::Expected => "expected",
        Summary::Skipped => "skipped",
    }
}

fn row(page: &mut String, case: &Tested, transports: &[Transport]) {
    let rules: Vec<&str> = case.rules.iter().map(|rule| rule.id.as_str()).collect();
    let words = format!("{} {} {} {} {}", case.id, case.title, rules.join(" "), case.family, case.profile.name());
    let state = class(case.summary());
    let _ = write!(
        page,
        "<tr class=\"is-{state}\" data-state=\"{state}\" data-text=\"{}\" id=\"{}\"><td>{}<br><code class=\"id\">{} · {}</code>",
        escape(&words.to_lowercase()),
        escape(&case.id),
        escape(&case.title),
        escape(&case.id),
        rules.join(" ")
    );
    let mut known: Vec<&str> = case.runs.iter().filter_map(|run| run.expected.as_deref()).collect();
    known.dedup();
    for reason in known {
        let _ = write!(page, "<p class=\"why known\">Known: {}</p>", escape(reason));
    }
    for run in &case.runs {
        explain(page, case, run);
    }
    let _ = write!(page, "</td><td class=\"profile\">{}</td>", case.profile.name());
    for transport in transports {
        let (mark, class, title) = match case.runs.iter().find(|run| run.transport == *transport) {
            None => ("", "skipped", String::new()),
            Some(run) => mark(run),
        };
        let _ = write!(page, "<td class=\"mark {class}\" title=\"{}\">{mark}</td>", escape(&title));
    }
    page.push_str("</tr>\n");
}

fn mark(run: &Run) -> (&'static str, &'static str, String) {
    let summary = run.summary();
    let title = match &run.verdict {
        Verdict::Passed => format!("{} ms", run.millis),
        Verdict::Failed { reason, .. } | Verdict::Skipped { reason } => reason.clone(),
    };
    let mark = match summary {
        Summary::Passed => "ok",
        Summary::Failed => "failed",
        Summary::Expected => "known",
        Summary::Skipped => "–",
    };
    (mark, class(summary), title)
}

fn explain(page: &mut String, case: &Tested, run: &Run) {
    let Verdict::Failed { reason, transcript } = &run.verdict else { return };
    let (open, known) = if run.expected.is_some() { ("", " known") } else { (" open", "") };
    let _ = write!(page, "<details{open}><summary>over {}</summary>", run.transport.name());
    let _ = write!(page, "<p class=\"why{known}\">{}</p>", escape(reason));
    page.push_str("<ul class=\"rules\">");
    for rule in &case.rules {
        let _ = write!(page, "<li>{}: {}</li>", escape(&rule.id), escape(&rule.text));
    }
    page.push_str("</ul><details><summary>What went over the wire</summary><pre>");
    for line in transcript {
        let _ = writeln!(page, "<span class=\"{}\">{}</span>", direction(line), escape(&wire(line)));
    }
    page.push_str("</pre></details></details>");
}

fn direction(line: &Line) -> &'static str {
    match line.direction {
        Direction::Sent => "out",
        Direction::Received => "in",
        Direction::Note => "note",
    }
}

/// Whatever a server says stays text.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// `2024-03-05 10:00 UTC`, of seconds since 1970.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that a leap day is a year's last. Four centuries have 146,097 days, and the first
    // began 719,468 days before 1970.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (hour, minute) = (rest / 3_600, rest % 3_600 / 60);
    format!("{:04}-{month:02}-{date:02} {hour:02}:{minute:02} UTC", era * 400 + year + carry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_709_632_859), "2024-03-05 10:00 UTC");
        assert_eq!(date(4_107_542_399), "2100-02-28 23:59 UTC");
    }

    #[test]
    fn what_a_server_says_stays_text() {
        assert_eq!(escape("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }
}
