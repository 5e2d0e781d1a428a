//! What processes cost, as the kernel counts it in `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Processes to measure: those named, and all that they started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Processes {
    roots: Vec<u32>,
}

/// What they had used up at one moment, and held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time in user mode, of all threads, ended ones included.
    pub(crate) user: Duration,
    /// Processor time in the kernel.
    pub(crate) system: Duration,
    /// Memory in RAM, in bytes. Pages shared by two of the processes count twice.
    pub(crate) resident: u64,
    /// Memory in RAM with shared pages divided by their users, where the kernel tells.
    pub(crate) proportional: Option<u64>,
}

/// A process cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot measure process {pid}: it has ended, or this system has no /proc")]
pub(crate) struct NoProcess {
    pid: u32,
}

impl Processes {
    /// The processes `roots` and their descendants.
    pub(crate) fn new(roots: Vec<u32>) -> Self {
        Self { roots }
    }

    /// Whether there is anything to measure.
    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// What they have used, and hold.
    ///
    /// # Errors
    /// [`NoProcess`] for a named process that is not there; a descendant may end at any time.
    pub(crate) fn usage(&self) -> Result<Usage, NoProcess> {
        let mut total = Usage::default();
        let mut proportional = Some(0);
        for pid in self.tree() {
            let Some(stat) = Stat::read(&format!("/proc/{pid}/stat")) else {
                if self.roots.contains(&pid) {
                    return Err(NoProcess { pid });
                }
                continue;
            };
            total.user += stat.user;
            total.system += stat.system;
            total.resident += kilobytes(&format!("/proc/{pid}/status"), "VmRSS:").unwrap_or(0);
            let share = kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:");
            proportional = proportional.zip(share).map(|(sum, share)| sum + share);
        }
        total.proportional = proportional;
        Ok(total)
    }

    /// The processes named, and their descendants.
    fn tree(&self) -> Vec<u32> {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(stat) = Stat::read(&format!("/proc/{pid}/stat")) {
                children.entry(stat.parent).or_default().push(pid);
            }
        }
        let mut tree = Vec::new();
        let mut found = self.roots.clone();
        while let Some(pid) = found.pop() {
            if !tree.contains(&pid) {
                tree.push(pid);
                found.extend(children.get(&pid).into_iter().flatten());
            }
        }
        tree
    }
}

/// Processor time that the calling thread has used; nothing where the system does not tell.
pub(crate) fn own_thread() -> Option<Duration> {
    // Nanoseconds, where the kernel keeps them; else ticks of 10 ms.
    let exact = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let exact = exact.and_then(|text| text.split(' ').next()?.parse().ok()).map(Duration::from_nanos);
    exact.or_else(|| Stat::read("/proc/thread-self/stat").map(|stat| stat.user + stat.system))
}

#[derive(Debug)]
struct Stat {
    parent: u32,
    user: Duration,
    system: Duration,
}

/// `USER_HZ`, in which `/proc` counts whatever the kernel's own tick is; 100 on every architecture that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

impl Stat {
    fn read(path: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the name in parentheses, which may hold anything, parentheses included.
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let parent = fields.nth(1)?.parse().ok()?;
        let user: u32 = fields.nth(9)?.parse().ok()?;
        let system: u32 = fields.next()?.parse().ok()?;
        Some(Self { parent, user: TICK * user, system: TICK * system })
    }
}

/// The figure of a line like `VmRSS:  1234 kB`, in bytes.
fn kilobytes(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|figure| figure * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 150 25 6 7 20 0 1 0 9 1 1";
        let stat = Stat::parse(text).expect("a stat");
        assert_eq!((stat.parent, stat.user, stat.system), (7, Duration::from_millis(1500), Duration::from_millis(250)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_costs_something_and_its_children_count() {
        let me = Processes::new(vec![std::process::id()]);
        let usage = me.usage().expect("it runs");
        assert!(usage.resident > 100_000, "{usage:?}");
        let mut child = std::process::Command::new("sleep").arg("20").spawn().expect("sleep exists");
        let tree = me.tree();
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(tree.contains(&child.id()), "{tree:?}");
        assert!(own_thread().is_some());
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(Processes::new(vec![u32::MAX]).usage().is_err());
    }
}
