//! Many contexts, callbacks or deadlines at once.

mod callbacks;
mod cpu;
mod plain_timer;
mod unrelated;

use crate::Measure;

pub(crate) fn all() -> Vec<Measure> {
    [callbacks::all(), unrelated::all(), cpu::all()]
        .into_iter()
        .flatten()
        .collect()
}

pub(crate) fn floors() -> Vec<Measure> {
    [unrelated::floors(), cpu::floors()]
        .into_iter()
        .flatten()
        .collect()
}
