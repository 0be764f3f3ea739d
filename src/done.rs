//! The channel behind `Context::done`: made when somebody first asks for it, closed once.
//!
//! A channel is itself shared by all who have it: its count of receivers, its list of those who
//! wait. So there is more than one where more than one thread asks: the thread that asked first has
//! the first, the others one for each lane. They are closed one after the other; who has seen one
//! of them closed and asks for the error waits for the others, so that nobody can tell.

use crossbeam_channel::{bounded, Receiver};
use once_cell::race::OnceBox;
use once_cell::sync::Lazy;

use crate::lane::Lanes;
use crate::sync::{thread_number, Signal};

/// The done channel of one context. Most contexts never pay for more than two pointers.
#[derive(Default)]
pub(crate) struct Done {
    first: OnceBox<Channel>,
    others: OnceBox<Lanes<OnceBox<Channel>>>,
}

pub(crate) struct Channel {
    /// The thread that asked for it.
    thread: u32,
    signal: Signal,
}

impl Channel {
    pub(crate) fn new() -> Box<Channel> {
        Box::new(Channel {
            thread: thread_number(),
            signal: Signal::new(),
        })
    }

    fn receiver(&self) -> &Receiver<()> {
        self.signal.receiver()
    }
}

impl Done {
    /// Whether anybody can be waiting.
    pub(crate) fn is_made(&self) -> bool {
        self.first.get().is_some()
    }

    /// The channel for this thread, if it has been made.
    pub(crate) fn mine(&self) -> Option<Receiver<()>> {
        let first = self.first.get()?;
        let mine = match first.thread == thread_number() {
            true => first,
            false => self.others.get()?.mine().get()?,
        };
        Some(mine.receiver().clone())
    }

    /// The channel for this thread if it has one, and otherwise any.
    pub(crate) fn any(&self) -> Option<Receiver<()>> {
        self.mine()
            .or_else(|| Some(self.first.get()?.receiver().clone()))
    }

    /// Whether it is one of the channels.
    pub(crate) fn has(&self, receiver: &Receiver<()>) -> bool {
        self.channels()
            .any(|channel| channel.receiver().same_channel(receiver))
    }

    /// Puts a channel in place for this thread. The first one stays; a later one comes back.
    pub(crate) fn install(&self, channel: Box<Channel>) -> Option<Box<Channel>> {
        let channel = self.first.set(channel).err()?;
        if self.first.get()?.thread == channel.thread {
            return Some(channel);
        }
        let others = self
            .others
            .get_or_init(|| Box::new(Lanes::new(OnceBox::new)));
        others.mine().set(channel).err()
    }

    /// Disconnects every receiver and wakes those who wait.
    pub(crate) fn close(&self) {
        for channel in self.channels() {
            channel.signal.close();
        }
    }

    /// Whether a receiver has been disconnected. A channel that was never made counts as open.
    pub(crate) fn is_closing(&self) -> bool {
        self.channels().any(|channel| channel.signal.is_closed())
    }

    /// Waits until every receiver is disconnected.
    pub(crate) fn wait_closed(&self) {
        for channel in self.channels() {
            channel.signal.wait();
        }
    }

    fn channels(&self) -> impl Iterator<Item = &Channel> {
        let others = self.others.get().into_iter().flat_map(Lanes::iter);
        self.first
            .get()
            .into_iter()
            .chain(others.filter_map(OnceBox::get))
    }
}

/// The channel of every context that was done before anybody asked for one. Nobody waits in it, so
/// here the flavour that is smallest will do.
#[inline]
pub(crate) fn closed() -> Receiver<()> {
    static CLOSED: Lazy<Lanes<Receiver<()>>> = Lazy::new(|| Lanes::new(|| bounded(0).1));
    CLOSED.mine().clone()
}
