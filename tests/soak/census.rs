//! What the process uses of the machine.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::atomic::Ordering;

use support::threads::thread_names;

use crate::contract::ALIVE;
use crate::ALLOCATOR;

/// What must be the same at the end as before. Only Linux reports threads and files.
pub(crate) struct Census {
    /// Values, causes, functions and custom contexts that are still owned by a context.
    pub(crate) alive: usize,
    /// By name, of which Linux keeps 15 characters.
    pub(crate) threads: Option<BTreeMap<String, usize>>,
    pub(crate) files: Option<usize>,
    pub(crate) heap: usize,
    /// For information: the kernel and the allocator keep what will probably be needed again.
    pub(crate) resident_kib: Option<usize>,
}

impl Census {
    pub(crate) fn take() -> Census {
        Census {
            alive: ALIVE.load(Ordering::SeqCst),
            heap: ALLOCATOR.allocated(), // first, because reading the others takes some of it
            threads: threads(),
            files: fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
            resident_kib: resident_kib(),
        }
    }

    /// Whether there are only this thread and the timer thread.
    pub(crate) fn is_idle(&self) -> bool {
        self.alive == 0 && self.thread_count().map_or(true, |count| count <= 2)
    }

    fn thread_count(&self) -> Option<usize> {
        Some(self.threads.as_ref()?.values().sum())
    }

    /// What exists now and did not exist `before`; empty if nothing is left.
    pub(crate) fn left_since(&self, before: &Census, spare: usize) -> Vec<String> {
        let mut left = Vec::new();
        if self.alive != before.alive {
            left.push(format!("{} alive, {} before", self.alive, before.alive));
        }
        if self.threads != before.threads {
            let [now, then] = [self, before].map(|census| List(census.threads.as_ref()));
            left.push(format!("threads: {now}, before: {then}"));
        }
        if self.files != before.files {
            let [now, then] = [self, before].map(|census| Shown(census.files));
            left.push(format!("{now} open files, {then} before"));
        }
        if self.heap > before.heap + spare {
            left.push(format!(
                "{} bytes of heap, {} before",
                self.heap, before.heap
            ));
        }
        left
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>9} {:>8} {:>6} {:>12} {:>13}",
            self.alive,
            Shown(self.thread_count()).to_string(),
            Shown(self.files).to_string(),
            self.heap,
            Shown(self.resident_kib).to_string(),
        )
    }
}

/// The heads of the columns of a census.
pub(crate) const COLUMNS: &str = "    alive  threads  files   heap bytes  resident KiB";

struct Shown(Option<usize>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(count) => write!(f, "{count}"),
            None => f.write_str("unknown"),
        }
    }
}

struct List<'a>(Option<&'a BTreeMap<String, usize>>);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, count)) in self.0.into_iter().flatten().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {name}")?;
        }
        Ok(())
    }
}

fn threads() -> Option<BTreeMap<String, usize>> {
    let mut threads = BTreeMap::new();
    for name in thread_names() {
        *threads.entry(name).or_default() += 1;
    }
    (!threads.is_empty()).then_some(threads)
}

fn resident_kib() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    resident.split_whitespace().next()?.parse().ok()
}
