//! Registers and unregisters signal handlers, and restores the default disposition.
//!
//! signal-hook leaves its handler installed when the last action for a signal is unregistered, and
//! the signal would then do nothing. So the first registration of a signal installs, ahead of all
//! other actions, one that emulates the default disposition. This action runs only while the
//! signal's flag `default_enabled` is set.
//!
//! # No signal is lost
//!
//! A signal that arrives must either be received by a [`Registration`] or have its default effect.
//! `default_enabled` is cleared after the actions of a `Registration` have been registered, and set
//! before they are unregistered. A handler loads the list of actions, tests the flag, and then runs
//! the other actions of the list. When signal-hook changes the list it waits for the handlers that
//! use an older one. So a handler that finds the flag cleared runs the actions of at least one
//! `Registration`.

use std::collections::btree_map::{BTreeMap, Entry};
use std::io;

use signal_hook::consts::FORBIDDEN;
use signal_hook::{flag, low_level, SigId};

use super::listen::{self, Listener};
use super::names;
use crate::runtime::sync::{Arc, AtomicBool, Mutex, Ordering};

/// Every signal that was ever caught. No user code runs under this lock, and no handler takes it.
static SIGNALS: Mutex<BTreeMap<i32, Signal>> = Mutex::new(BTreeMap::new());

struct Signal {
    /// How many registrations catch it now.
    registrations: usize,
    /// Whether the default disposition is emulated. `None` if the signal was ignored or handled by
    /// other code before it was first caught, because then that is left in effect.
    default_enabled: Option<Arc<AtomicBool>>,
}

/// Catches some signals until it is stopped or dropped.
pub(super) struct Registration {
    signals: Vec<i32>,
    actions: Vec<SigId>,
    /// Written under the lock of `SIGNALS`.
    stopped: AtomicBool,
}

impl Registration {
    pub(super) fn start(signals: Vec<i32>) -> io::Result<(Registration, Listener)> {
        check(&signals)?;
        let (notifier, listener) = listen::pair()?;
        let mut actions = Vec::new();
        let mut table = SIGNALS.lock();
        let attached = signals.iter().try_for_each(|&signal| {
            if let Entry::Vacant(vacant) = table.entry(signal) {
                vacant.insert(Signal::install_default(signal)?);
            }
            notifier.attach(signal, &mut actions)
        });
        if let Err(err) = attached {
            for action in actions {
                low_level::unregister(action);
            }
            return Err(err);
        }
        for signal in &signals {
            table.entry(*signal).and_modify(Signal::retain);
        }
        drop(table);
        let registration = Registration {
            signals,
            actions,
            stopped: AtomicBool::new(false),
        };
        Ok((registration, listener))
    }

    /// Stops catching the signals. When it returns they are no longer caught, and the listener
    /// returns `None` after those that were. Only the first call has an effect.
    pub(super) fn stop(&self) {
        let mut table = SIGNALS.lock();
        if self.stopped.swap(true, Ordering::Relaxed) {
            return;
        }
        for signal in &self.signals {
            table.entry(*signal).and_modify(Signal::release);
        }
        // Under the lock, because a second call must not return before this is finished.
        for action in &self.actions {
            low_level::unregister(*action);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Signal {
    /// Installs the action that emulates the default disposition of a signal, unless it is ignored
    /// or handled by other code.
    fn install_default(signal: i32) -> io::Result<Signal> {
        let default_enabled = is_default(signal)?.then(|| Arc::new(AtomicBool::new(true)));
        if let Some(flag) = default_enabled.clone() {
            let has_known_default = low_level::signal_name(signal).is_some();
            let registered = match has_known_default {
                true => flag::register_conditional_default(signal, flag),
                false => flag::register_conditional_shutdown(signal, 128 + signal, flag),
            };
            registered.map_err(|err| match err.kind() {
                io::ErrorKind::InvalidInput => invalid(format!("there is no signal {signal}")),
                _ => err,
            })?;
        }
        Ok(Signal {
            registrations: 0,
            default_enabled,
        })
    }

    fn retain(&mut self) {
        self.registrations += 1;
        self.update();
    }

    fn release(&mut self) {
        self.registrations -= 1;
        self.update();
    }

    fn update(&self) {
        if let Some(default_enabled) = &self.default_enabled {
            default_enabled.store(self.registrations == 0, Ordering::SeqCst);
        }
    }
}

/// Rejects signals for which signal-hook would panic, or the C library of Windows would end the
/// process.
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

/// Returns whether the signal has its default disposition, which is assumed if there is no `/proc`.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_default(signal: i32) -> io::Result<bool> {
    let status = match std::fs::read("/proc/self/status") {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(true),
        status => status?,
    };
    // May not be UTF-8, because the file contains the name of the process.
    let status = String::from_utf8_lossy(&status);
    let is_in = |set: &str| {
        let digits = status.lines().find_map(|line| line.strip_prefix(set));
        let bits = digits.and_then(|digits| u128::from_str_radix(digits.trim(), 16).ok());
        bits.is_some_and(|bits| bits >> (signal - 1) & 1 == 1)
    };
    Ok(!is_in("SigIgn:") && !is_in("SigCgt:"))
}

/// Returns `true`, because std and signal-hook cannot read the disposition.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_default(_: i32) -> io::Result<bool> {
    Ok(true)
}
