//! `err`, `done` and `cause`, asked for the first time or again while contexts are cancelled.

use super::*;

/// crossbeam may read the flag of a disconnected channel with a relaxed load, so the memory ordering
/// has to come from elsewhere.
#[test]
fn done_closed_implies_err_some() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let done = ctx.done();
        let reader = spawn({
            let ctx = ctx.clone();
            move || {
                if is_closed(&done) {
                    assert!(ctx.err().is_some(), "closed, and no error");
                }
            }
        });
        cancel.cancel("x");
        reader.join().unwrap();
    });
}

#[test]
fn err_some_implies_done_closed() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let done = ctx.done();
        let reader = spawn({
            let ctx = ctx.clone();
            move || {
                if ctx.err().is_some() {
                    assert!(is_closed(&done), "an error, and the channel is open");
                    assert_eq!(cause(&ctx), "x");
                }
            }
        });
        cancel.cancel("x");
        reader.join().unwrap();
    });
}

#[test]
fn done_created_during_cancel_is_closed() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        register(&ctx);
        let reader = spawn({
            let ctx = ctx.clone();
            move || {
                let done = ctx.done();
                assert!(!is_closed(&done) || ctx.err().is_some());
                done
            }
        });
        cancel.cancel("x");
        assert!(is_closed(&ctx.done()));
        let done = reader.join().unwrap();
        assert!(is_closed(&done), "a channel that is never closed");
    });
}

#[test]
fn done_during_cancel_of_unregistered_is_closed() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let reader = spawn({
            let ctx = ctx.clone();
            move || ctx.done()
        });
        cancel.cancel("x");
        assert_done(&ctx);
        let done = reader.join().unwrap();
        assert!(is_closed(&done), "a channel that is never closed");
    });
}

#[test]
fn done_is_never_open_once_another_is_closed() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let first = ctx.done();
        let reader = spawn({
            let ctx = ctx.clone();
            move || {
                let _mine = ctx.done();
                if is_closed(&first) {
                    assert!(is_closed(&ctx.done()));
                }
            }
        });
        cancel.cancel("x");
        reader.join().unwrap();
    });
}

/// Each thread has a channel of its own, and they are closed one after the other.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn done_and_err_agree_on_all_threads() {
    in_many_orders(|| {
        let (ctx, cancel) = root();
        let reader = || {
            let ctx = ctx.clone();
            spawn(move || {
                let done = ctx.done();
                for _ in 0..3 {
                    if is_closed(&done) {
                        assert!(ctx.err().is_some(), "closed, and no error");
                        assert_eq!(cause(&ctx), "x");
                    }
                    if ctx.err().is_some() {
                        assert!(is_closed(&done), "an error, and the channel is open");
                        assert!(is_closed(&ctx.done()));
                    }
                }
                done
            })
        };
        let readers = [reader(), reader()];
        let other = spawn({
            let ctx = ctx.clone();
            move || assert!(ctx.err().is_none() || is_closed(&ctx.done()))
        });
        cancel.cancel("x");
        assert!(join(readers).iter().all(is_closed));
        other.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn done_and_err_agree_within_a_shard() {
    in_many_orders(|| {
        crate::runtime::sync::share_shards();
        let (ctx, cancel) = root();
        let first = ctx.done();
        let reader = || {
            let ctx = ctx.clone();
            spawn(move || {
                let done = ctx.done();
                if is_closed(&done) {
                    assert!(ctx.err().is_some(), "closed, and no error");
                }
                if ctx.err().is_some() {
                    assert!(is_closed(&done), "an error, and the channel is open");
                }
                done
            })
        };
        let readers = [reader(), reader()];
        cancel.cancel("x");
        assert_closed(&first);
        assert!(join(readers).iter().all(is_closed));
    });
}

/// A node that is registered while it is cancelled must not leave its parent's table too early.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn registration_during_cancel_hides_no_descendant() {
    in_many_orders(|| {
        let (parent, cancel_parent) = root();
        register(&parent);
        let (ctx, cancel) = child(&parent);
        let registrar = spawn({
            let ctx = ctx.clone();
            move || register(&ctx)
        });
        let (grandchild, _cancel) = child(&ctx);
        let done = grandchild.done();
        let other = spawn(move || cancel.cancel("other"));
        cancel_parent.cancel("x");
        assert_closed(&done);
        assert_done(&grandchild);
        registrar.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn chain_cancelled_in_two_places_agrees() {
    in_many_orders(|| {
        let (chain, mut cancels) = chain(4);
        let reader = |has_channel: bool| {
            let (above, ctx) = (chain[3].clone(), chain[4].clone());
            spawn(move || {
                let done = has_channel.then(|| ctx.done());
                if ctx.err().is_some() {
                    assert!(done.iter().all(is_closed));
                    assert!(above.err().is_none() || cause(&above) == cause(&ctx));
                }
                done
            })
        };
        let readers = [reader(true), reader(false)];
        let cancel_middle = cancels.remove(2);
        let other = spawn({
            let below = chain[2..].to_vec();
            move || {
                cancel_middle.cancel("middle");
                below.iter().for_each(assert_done);
            }
        });
        cancels[0].cancel("top");
        chain.iter().for_each(assert_done);
        for done in join(readers) {
            assert!(done.iter().all(is_closed));
        }
        other.join().unwrap();
        assert_eq!(cause(&chain[1]), "top");
        let below = cause(&chain[2]);
        assert!(below == "middle" || below == "top");
        assert!(chain[2..].iter().all(|ctx| cause(ctx) == below));
    });
}
