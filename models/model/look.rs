//! Those who look, for the first time or again, against cancels.

use super::*;

/// crossbeam reads the mark of a closed channel with a relaxed load, so the order of memory has to
/// come from elsewhere.
#[test]
fn who_sees_the_channel_closed_finds_the_error() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let done = ctx.done();
        let looker = go({
            let ctx = ctx.clone();
            move || {
                if is_closed(&done) {
                    assert!(ctx.err().is_some(), "closed, and no error");
                }
            }
        });
        cancel.cancel("x");
        looker.join().unwrap();
    });
}

#[test]
fn who_sees_the_error_finds_the_channel_closed() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let done = ctx.done();
        let looker = go({
            let ctx = ctx.clone();
            move || {
                if ctx.err().is_some() {
                    assert!(is_closed(&done), "an error, and the channel is open");
                    assert_eq!(cause(&ctx), "x");
                }
            }
        });
        cancel.cancel("x");
        looker.join().unwrap();
    });
}

#[test]
fn a_channel_made_during_a_cancel_is_closed_by_it() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let _ = ctx.err();
        let looker = go({
            let ctx = ctx.clone();
            move || {
                let done = ctx.done();
                assert!(!is_closed(&done) || ctx.err().is_some());
                done
            }
        });
        cancel.cancel("x");
        assert!(is_closed(&ctx.done()));
        let done = looker.join().unwrap();
        assert!(is_closed(&done), "a channel that nobody closes");
    });
}

#[test]
fn a_first_look_during_a_cancel_from_above_finds_its_place_or_the_end() {
    in_all_orders(|| {
        let (parent, cancel) = root();
        let (ctx, _cancel) = child(&parent);
        let looker = go({
            let ctx = ctx.clone();
            move || {
                let err = ctx.err();
                assert!(err.is_none() || cause(&ctx) == "x");
            }
        });
        cancel.cancel("x");
        assert_done(&ctx);
        looker.join().unwrap();
        assert_eq!(cause(&ctx), "x");
    });
}

#[test]
fn who_has_a_channel_and_sees_another_closed_is_given_no_open_one() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let first = ctx.done();
        let looker = go({
            let ctx = ctx.clone();
            move || {
                let _mine = ctx.done();
                if is_closed(&first) {
                    assert!(is_closed(&ctx.done()));
                }
            }
        });
        cancel.cancel("x");
        looker.join().unwrap();
    });
}

/// Each thread has a channel of its own, closed one after the other, and nobody can tell.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn all_threads_agree_on_channel_and_error() {
    in_many_orders(|| {
        let (ctx, cancel) = root();
        let looker = || {
            let ctx = ctx.clone();
            go(move || {
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
        let lookers = [looker(), looker()];
        let other = go({
            let ctx = ctx.clone();
            move || assert!(ctx.err().is_none() || is_closed(&ctx.done()))
        });
        cancel.cancel("x");
        for looker in lookers {
            let done = looker.join().unwrap();
            assert!(is_closed(&done));
        }
        other.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn threads_that_share_a_lane_agree_as_well() {
    in_many_orders(|| {
        crate::sync::share_lanes();
        let (ctx, cancel) = root();
        let first = ctx.done();
        let looker = || {
            let ctx = ctx.clone();
            go(move || {
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
        let lookers = [looker(), looker()];
        cancel.cancel("x");
        assert!(is_closed(&first));
        for looker in lookers {
            let done = looker.join().unwrap();
            assert!(is_closed(&done));
        }
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn a_late_first_look_hides_no_descendant_from_a_cancel_above() {
    in_many_orders(|| {
        let (parent, cancel_parent) = root();
        assert!(parent.err().is_none());
        let (ctx, cancel) = child(&parent);
        let looker = go({
            let ctx = ctx.clone();
            move || {
                let _ = ctx.err();
            }
        });
        let (grandchild, _cancel) = child(&ctx);
        let done = grandchild.done();
        let other = go(move || cancel.cancel("other"));
        cancel_parent.cancel("x");
        assert!(
            is_closed(&done),
            "cancel has returned, and a descendant is not done"
        );
        assert_done(&grandchild);
        looker.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn two_first_looks_at_a_chain_that_is_cancelled_in_two_places() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let mut chain = vec![(top, cancel_top)];
        for _ in 0..4 {
            let next = child(&chain[chain.len() - 1].0);
            chain.push(next);
        }
        let (chain, mut cancels): (Vec<_>, Vec<_>) = chain.into_iter().unzip();
        let looker = |take_channel: bool| {
            let (above, ctx) = (chain[3].clone(), chain[4].clone());
            go(move || {
                let done = take_channel.then(|| ctx.done());
                if ctx.err().is_some() {
                    assert!(done.iter().all(is_closed));
                    assert!(above.err().is_none() || cause(&above) == cause(&ctx));
                }
                done
            })
        };
        let lookers = [looker(true), looker(false)];
        let cancel_middle = cancels.remove(2);
        let other = go({
            let below = chain[2..].to_vec();
            move || {
                cancel_middle.cancel("middle");
                below.iter().for_each(assert_done);
            }
        });
        cancels[0].cancel("top");
        chain.iter().for_each(assert_done);
        for looker in lookers {
            let done = looker.join().unwrap();
            assert!(done.iter().all(is_closed));
        }
        other.join().unwrap();
        assert_eq!(cause(&chain[1]), "top");
        let below = cause(&chain[2]);
        assert!(below == "middle" || below == "top");
        assert!(chain[2..].iter().all(|ctx| cause(ctx) == below));
    });
}
