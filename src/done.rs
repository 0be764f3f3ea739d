//! The channel behind `Context::done`: made when somebody first asks for it, closed once.

use crossbeam_channel::{unbounded, Receiver, Sender, TryRecvError};
use once_cell::race::OnceBox;
use once_cell::sync::Lazy;

use crate::sync::Mutex;

/// The done channel of one context. Most contexts never pay for more than this pointer.
pub(crate) struct Done(OnceBox<Channel>);

pub(crate) struct Channel {
    /// The only sender. It never sends: dropping it is the news.
    open: Mutex<Option<Sender<()>>>,
    receiver: Receiver<()>,
}

impl Channel {
    /// The list flavour: receivers poll it without a lock, and until a first message, which never
    /// comes, it is a single allocation.
    pub(crate) fn new() -> Box<Channel> {
        let (sender, receiver) = unbounded();
        Box::new(Channel {
            open: Mutex::new(Some(sender)),
            receiver,
        })
    }
}

impl Done {
    pub(crate) const fn new() -> Done {
        Done(OnceBox::new())
    }

    /// Whether anybody can be waiting.
    pub(crate) fn is_made(&self) -> bool {
        self.0.get().is_some()
    }

    pub(crate) fn receiver(&self) -> Option<Receiver<()>> {
        self.0.get().map(|channel| channel.receiver.clone())
    }

    /// Puts the channel in place. The first one stays; a later one comes back.
    pub(crate) fn install(&self, channel: Box<Channel>) -> Option<Box<Channel>> {
        self.0.set(channel).err()
    }

    /// Disconnects every receiver and wakes those who wait.
    pub(crate) fn close(&self) {
        if let Some(channel) = self.0.get() {
            let sender = channel.open.lock().take();
            drop(sender); // with the lock given back
        }
    }

    /// Whether the receivers are disconnected. A channel that was never made counts as open.
    pub(crate) fn is_closed(&self) -> bool {
        self.0
            .get()
            .is_some_and(|channel| channel.receiver.try_recv() == Err(TryRecvError::Disconnected))
    }
}

/// The channel of every context that was done before anybody asked for one.
pub(crate) fn closed() -> Receiver<()> {
    static CLOSED: Lazy<Receiver<()>> = Lazy::new(|| unbounded().1);
    CLOSED.clone()
}
