//! Which signals are caught, and what becomes of one that nobody catches.
//!
//! signal-hook leaves its handler in place when the last action for a signal is taken out: the signal
//! would then do nothing. So, once for each signal, an action is put before all others that does what
//! the system would have done. It looks at a flag, `unclaimed`, and acts only while that is set.
//!
//! # No signal is lost
//!
//! `unclaimed` is cleared after the actions of a `Catch` have been put in, and set before they are
//! taken out. A handler looks at it first and then runs the actions, of which it took a list before;
//! and signal-hook, when it puts in or takes out an action, waits for the handlers that use an older
//! list. So a handler that found the flag cleared runs the actions of some `Catch`.

use std::collections::btree_map::{BTreeMap, Entry};
use std::io;

use signal_hook::consts::FORBIDDEN;
use signal_hook::{flag, low_level, SigId};

use super::listen::{self, Listener};
use super::names;
use crate::runtime::sync::{Arc, AtomicBool, Mutex, Ordering};

/// Every signal that was ever caught. No code of the user's runs under this lock, and no handler asks
/// for it.
static SIGNALS: Mutex<BTreeMap<i32, Signal>> = Mutex::new(BTreeMap::new());

struct Signal {
    /// How many catch it now.
    catches: usize,
    /// `None` if the signal was ignored or somebody else's at first: then it stays so.
    unclaimed: Option<Arc<AtomicBool>>,
}

/// The catching of some signals, until it is stopped or dropped.
pub(super) struct Catch {
    signals: Vec<i32>,
    actions: Vec<SigId>,
    /// Changed under the lock.
    stopped: AtomicBool,
}

impl Catch {
    pub(super) fn start(signals: Vec<i32>) -> io::Result<(Catch, Listener)> {
        check(&signals)?;
        let (bell, listener) = listen::pair()?;
        let mut actions = Vec::new();
        let mut known = SIGNALS.lock();
        let attached = signals.iter().try_for_each(|&signal| {
            if let Entry::Vacant(unknown) = known.entry(signal) {
                unknown.insert(Signal::first_caught(signal)?);
            }
            bell.attach(signal, &mut actions)
        });
        if let Err(err) = attached {
            for action in actions {
                low_level::unregister(action);
            }
            return Err(err);
        }
        for signal in &signals {
            known.entry(*signal).and_modify(Signal::caught);
        }
        drop(known);
        let catch = Catch {
            signals,
            actions,
            stopped: AtomicBool::new(false),
        };
        Ok((catch, listener))
    }

    /// When it returns, the signals are no longer caught, and the listener will come to its end. Only
    /// the first call does anything.
    pub(super) fn stop(&self) {
        let mut known = SIGNALS.lock();
        if self.stopped.swap(true, Ordering::Relaxed) {
            return;
        }
        for signal in &self.signals {
            known.entry(*signal).and_modify(Signal::let_go);
        }
        // Under the lock, for who calls second has to wait for it.
        for action in &self.actions {
            low_level::unregister(*action);
        }
    }
}

impl Drop for Catch {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Signal {
    /// Puts in what is to happen to the signal while nobody catches it.
    fn first_caught(signal: i32) -> io::Result<Signal> {
        let unclaimed = is_default(signal)?.then(|| Arc::new(AtomicBool::new(true)));
        if let Some(flag) = unclaimed.clone() {
            let known = low_level::signal_name(signal).is_some();
            let registered = match known {
                true => flag::register_conditional_default(signal, flag),
                false => flag::register_conditional_shutdown(signal, 128 + signal, flag),
            };
            registered.map_err(|err| match err.kind() {
                io::ErrorKind::InvalidInput => invalid(format!("there is no signal {signal}")),
                _ => err,
            })?;
        }
        Ok(Signal {
            catches: 0,
            unclaimed,
        })
    }

    fn caught(&mut self) {
        self.catches += 1;
        self.update();
    }

    fn let_go(&mut self) {
        self.catches -= 1;
        self.update();
    }

    fn update(&self) {
        if let Some(unclaimed) = &self.unclaimed {
            unclaimed.store(self.catches == 0, Ordering::SeqCst);
        }
    }
}

/// Finds the signals of which signal-hook would panic, or the C library of Windows end the process.
fn check(signals: &[i32]) -> io::Result<()> {
    if signals.is_empty() {
        return Err(invalid("there are no signals to catch".into()));
    }
    for &signal in signals {
        if FORBIDDEN.contains(&signal) {
            let name = names::list(&[signal]);
            return Err(invalid(format!(
                "signal {signal} ({name}) cannot be caught"
            )));
        }
        let possible = (1..128).contains(&signal);
        if !possible || cfg!(windows) && names::name(signal).is_none() {
            return Err(invalid(format!("there is no signal {signal}")));
        }
    }
    Ok(())
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Whether the signal does what the system has it do, as far as one can tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_default(signal: i32) -> io::Result<bool> {
    let status = match std::fs::read("/proc/self/status") {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(true),
        status => status?,
    };
    // The name of the process is in there too, and may be anything.
    let status = String::from_utf8_lossy(&status);
    let is_in = |set: &str| {
        let digits = status.lines().find_map(|line| line.strip_prefix(set));
        let bits = digits.and_then(|digits| u128::from_str_radix(digits.trim(), 16).ok());
        bits.is_some_and(|bits| bits >> (signal - 1) & 1 == 1)
    };
    Ok(!is_in("SigIgn:") && !is_in("SigCgt:"))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_default(_: i32) -> io::Result<bool> {
    Ok(true)
}
