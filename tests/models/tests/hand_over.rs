//! Deadlines whose cancellation the timer thread hands over, because it would have to wait or has too
//! much to do.

use super::*;

use crate::Error;

fn assert_ended(parent: &Context) {
    timer::join_all();
    assert_done(parent);
    let error = parent.err();
    assert!(error == Some(Error::DeadlineExceeded) || error == Some(Error::Canceled));
}

/// It has one child, which is the most that is done at once in a model.
#[test]
fn deadline_with_child_against_cancel_of_child() {
    in_all_orders(|| {
        let (parent, _cancel) = with_timeout(&Context::background());
        let (ctx, cancel) = child(&parent);
        let done = ctx.done();
        let canceler = spawn(move || cancel.cancel("x"));
        timer::fire();
        canceler.join().unwrap();
        assert_ended(&parent);
        assert!(is_closed(&done));
        assert!(cause(&ctx) == "x" || ctx.err() == parent.err());
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn deadline_with_many_children_against_cancel_and_drop() {
    in_many_orders(|| {
        let (parent, cancel_parent) = with_timeout(&Context::background());
        let children: Vec<_> = (0..4).map(|_| child(&parent)).collect();
        let done: Vec<_> = children.iter().map(|(ctx, _)| ctx.done()).collect();
        let mut children = children.into_iter();
        let (first, last) = (children.next(), children.next_back());
        let others = [
            spawn(timer::fire),
            spawn(move || drop(last)),
            spawn(move || first.into_iter().for_each(|(_, cancel)| cancel.cancel("x"))),
        ];
        cancel_parent.cancel();
        done.iter().for_each(assert_closed);
        join(others);
        assert_ended(&parent);
    });
}

/// Without another cancellation of the parent, what is handed over is alone in ending the children.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn deadline_alone_reaches_children_and_callbacks() {
    in_many_orders(|| {
        let (parent, _cancel) = with_timeout(&Context::background());
        let children: Vec<_> = (0..4).map(|_| registered_child(&parent)).collect();
        let ran = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let after_func = children[3].0.after_func({
            let ran = ran.clone();
            move || ran.store(true, std::sync::atomic::Ordering::SeqCst)
        });
        let deriver = spawn({
            let parent = parent.clone();
            move || registered_child(&parent)
        });
        timer::fire();
        let (late, _cancel) = deriver.join().unwrap();
        assert_ended(&parent);
        children.iter().for_each(|(ctx, _)| assert_done(ctx));
        assert_done(&late);
        assert_eq!(late.err(), Some(Error::DeadlineExceeded));
        assert!(ran.load(std::sync::atomic::Ordering::SeqCst));
        assert!(!after_func.stop());
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn deadline_meets_busy_child() {
    in_many_orders(|| {
        let (parent, cancel) = with_timeout(&Context::background());
        let (middle, cancel_middle) = child(&parent);
        let low = [child(&middle), child(&middle)];
        let done = low.each_ref().map(|(ctx, _)| ctx.done());
        let others = [
            spawn(timer::fire),
            spawn_cancel(cancel_middle, "middle", &done),
        ];
        cancel.cancel();
        done.iter().for_each(assert_closed);
        join(others);
        assert_ended(&parent);
        assert!(low.iter().all(|(ctx, _)| cause(ctx) == cause(&middle)));
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn deadline_with_many_channels_against_cancel() {
    in_many_orders(|| {
        let (parent, cancel) = with_timeout(&Context::background());
        let (ctx, _cancel) = child(&parent);
        let reader = |ctx: &Context| {
            let ctx = ctx.clone();
            spawn(move || {
                let done = ctx.done();
                assert!(!is_closed(&done) || ctx.err().is_some());
                assert!(ctx.err().is_none() || is_closed(&done));
                done
            })
        };
        let mine = [parent.done(), ctx.done()];
        let readers = [reader(&parent), reader(&ctx)];
        let time = spawn(timer::fire);
        cancel.cancel();
        mine.iter().for_each(assert_closed);
        assert!(join(readers).iter().all(is_closed));
        time.join().unwrap();
        assert_ended(&parent);
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn deadline_with_many_channels_alone_closes_all() {
    in_many_orders(|| {
        let (parent, _cancel) = with_timeout(&Context::background());
        let mine = parent.done();
        let reader = spawn({
            let parent = parent.clone();
            move || {
                let done = parent.done();
                assert!(!is_closed(&done) || parent.err().is_some());
                done
            }
        });
        timer::fire();
        let theirs = reader.join().unwrap();
        assert_ended(&parent);
        assert!(is_closed(&mine) && is_closed(&theirs));
        assert_eq!(parent.err(), Some(Error::DeadlineExceeded));
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn deadline_meets_child_being_dropped() {
    in_many_orders(|| {
        let (parent, cancel) = with_timeout(&Context::background());
        let (ctx, cancel_child) = child(&parent);
        let done = ctx.done();
        let others = [spawn(timer::fire), spawn(move || drop((ctx, cancel_child)))];
        cancel.cancel();
        assert_closed(&done);
        join(others);
        assert_ended(&parent);
    });
}

/// What is handed over may be the last owner of the context.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn deadline_of_contexts_dropped_meanwhile() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let (parent, cancel) = with_timeout(&top);
        let children: Vec<_> = (0..3).map(|_| child(&parent)).collect();
        let done: Vec<_> = children.iter().map(|(ctx, _)| ctx.done()).collect();
        drop((parent, cancel));
        let others = [
            spawn(timer::fire),
            spawn(move || drop(children)),
            spawn(move || cancel_top.cancel("x")),
        ];
        drop(top);
        join(others);
        timer::join_all();
        assert!(done.iter().all(is_closed));
    });
}
