//! The way that an end took: from a context up to the one where it began.

use std::panic::Location;
use std::time::Duration;

use super::phase::{CauseIn, End, LinkIndex};
use super::{Kind, Node, A_DEADLINE, NO_TIMEOUT};
use crate::runtime::rounded::from_rounded;
use crate::runtime::sync::Arc;

/// What limits the time of a context.
pub(crate) enum Limit {
    None,
    Deadline,
    Timeout(Duration),
}

impl Node {
    pub(crate) fn derived_at(&self) -> &'static Location<'static> {
        self.derived_at
    }

    /// Returns the deadline or timeout that the node was given, even if the parent's came first.
    pub(crate) fn limit(&self) -> Limit {
        match self.state.lock().timeout {
            NO_TIMEOUT => Limit::None,
            A_DEADLINE => Limit::Deadline,
            timeout => Limit::Timeout(from_rounded(timeout)),
        }
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

    /// Returns how the node ended, unless it is a custom context, which itself says so.
    pub(crate) fn end(&self) -> Option<End> {
        let is_custom = self.kind == Kind::Custom;
        self.phase.load().end().filter(|_| !is_custom)
    }
}
