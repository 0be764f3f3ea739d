//! One call for all threads that need its result. In Go: `golang.org/x/sync/singleflight`.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;

use go_context::crossbeam_channel::{bounded, Receiver};
use go_context::{Context, DropGuard, Error, RecvError};

/// The calls that are running. Create it with `Group::default()`.
pub type Group<K, V> = Mutex<HashMap<K, Weak<Call<V>>>>;

/// Shared by the threads that wait. When the last of them has left, the work is cancelled.
pub struct Call<V> {
    result: Arc<OnceLock<V>>,
    finished: Receiver<()>,
    _cancel: DropGuard,
}

/// Returns the result of `work`, or of the work that is running already for an equal key. Work has
/// the values of its first caller's context, but neither its cancellation nor its deadline.
pub fn run<K, V, F>(group: &Group<K, V>, ctx: &Context, key: K, work: F) -> Result<V, Error>
where
    K: Eq + Hash,
    V: Clone + Send + Sync + 'static,
    F: FnOnce(&Context) -> V + Send + 'static,
{
    let mut calls = group.lock().unwrap();
    calls.retain(|_, call| call.strong_count() > 0);
    let running = calls.get(&key).and_then(Weak::upgrade);
    let running = running.filter(|call| call.result.get().is_none());
    let call = running.unwrap_or_else(|| {
        let (ctx, cancel) = ctx.without_cancel().with_cancel();
        let (finished_tx, finished) = bounded(0);
        let call = Arc::new(Call {
            result: Arc::default(),
            finished,
            _cancel: cancel.drop_guard(),
        });
        let result = Arc::clone(&call.result);
        thread::spawn(move || {
            let _finished = finished_tx; // disconnects even if the work panics
            result.set(work(&ctx))
        });
        calls.insert(key, Arc::downgrade(&call));
        call
    });
    drop(calls);
    match ctx.recv(&call.finished) {
        Err(RecvError::Done(err)) => Err(err),
        _ => Ok(call.result.get().expect("the work panicked").clone()),
    }
}
