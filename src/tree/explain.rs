//! The way that an end took: from a context up to the one where it began.

use std::panic::Location;
use std::time::Duration;

use super::phase::{CauseIn, LinkIndex};
use super::{Kind, Node, Origin, NO_TIMEOUT};
use crate::runtime::rounded::from_rounded;
use crate::runtime::sync::Arc;

impl Node {
    pub(crate) fn derived_at(&self) -> &'static Location<'static> {
        self.derived_at
    }

    /// Returns the timeout that the node was given.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let timeout = self.state.lock().timeout;
        (timeout != NO_TIMEOUT).then(|| from_rounded(timeout))
    }

    /// Returns the parent whose end ended this node, which must be done, and which of the parents it is.
    /// Returns `None` if the end began here.
    pub(crate) fn ended_by(&self) -> Option<(LinkIndex, &Arc<Node>)> {
        if self.kind == Kind::Custom {
            // It has a parent only if it hands out the parent's channel, which is disconnected.
            let parent = self.parent.as_ref()?;
            return parent.err().map(|_| (LinkIndex::First, parent));
        }
        match self.phase.load().end()?.cause {
            CauseIn::Error | CauseIn::Node => None,
            CauseIn::Parent(index) | CauseIn::Custom(index) => {
                self.link(index).map(|(parent, _)| (index, parent))
            }
        }
    }

    /// Returns the origin of the end, for a node where it began.
    pub(crate) fn origin(&self) -> Origin {
        let end = self.phase.load().end();
        end.map_or(Origin::NONE, |end| end.origin)
    }
}
