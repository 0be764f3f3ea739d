//! Custom contexts.

use go_context::crossbeam_channel::Receiver;
use go_context::{Context, CustomContext, Error};

/// Passes everything through to the context that it wraps, including its done channel.
pub struct PassThrough(pub Context);

impl CustomContext for PassThrough {
    fn done(&self) -> Receiver<()> {
        self.0.done()
    }

    fn err(&self) -> Option<Error> {
        self.0.err()
    }

    fn wrapped(&self) -> Option<&Context> {
        Some(&self.0)
    }
}

/// Passes everything through except the done channel: it has its own.
pub struct OwnDone(pub Context, pub Receiver<()>);

impl CustomContext for OwnDone {
    fn done(&self) -> Receiver<()> {
        self.1.clone()
    }

    fn err(&self) -> Option<Error> {
        self.0.err()
    }

    fn wrapped(&self) -> Option<&Context> {
        Some(&self.0)
    }
}
