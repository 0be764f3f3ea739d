//! `Context::recv`, `send` and `iter`: they return when the context is done.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::iter::FusedIterator;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{
    after, bounded, never, tick, unbounded, Receiver, Sender, TryRecvError, TrySendError,
};
use go_context::{Context, CustomContext, Error, Iter, RecvError, SendError};
use support::blocked::block;
use support::threads::spawn;
use support::{cancelled, receive, HOUR, LIMIT};

const SOON: Duration = Duration::from_millis(20);
const CANCELED: RecvError = RecvError::Done(Error::Canceled);
const LATE: RecvError = RecvError::Done(Error::DeadlineExceeded);

/// More rounds than a random choice gets right in a row.
const ROUNDS: usize = 200;

#[test]
fn recv_takes_waiting_message() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    for (tx, rx) in [bounded(2), unbounded()] {
        tx.send(1).unwrap();
        tx.send(2).unwrap();
        assert_eq!(ctx.recv(&rx), Ok(1));
        assert_eq!(ctx.recv(&rx), Ok(2));
    }
    let (tx, rx) = bounded(0);
    let sent = block(move || tx.send(3));
    assert_eq!(ctx.recv(&rx), Ok(3));
    assert_eq!(receive(&sent), Ok(()));
}

#[test]
fn recv_waits_for_message() {
    for (tx, rx) in channels() {
        let (ctx, _cancel) = Context::background().with_timeout(HOUR);
        let received = block(move || ctx.recv(&rx));
        tx.send(1).unwrap();
        assert_eq!(receive(&received), Ok(1));
    }
}

#[test]
fn send_uses_free_capacity() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    for (tx, rx) in [bounded(2), unbounded()] {
        assert_eq!(ctx.send(&tx, 1), Ok(()));
        assert_eq!(ctx.send(&tx, 2), Ok(()));
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2]);
    }
    let (tx, rx) = bounded(0);
    let received = block(move || rx.recv());
    assert_eq!(ctx.send(&tx, 3), Ok(()));
    assert_eq!(receive(&received), Ok(3));
}

#[test]
fn send_waits_for_capacity() {
    for (tx, rx) in [full(), bounded(0)] {
        let before: Vec<u32> = rx.try_iter().collect();
        before.iter().for_each(|message| tx.send(*message).unwrap());
        let (ctx, _cancel) = Context::background().with_timeout(HOUR);
        let sent = block(move || ctx.send(&tx, 7));
        for message in before {
            assert_eq!(rx.recv_timeout(LIMIT), Ok(message));
        }
        assert_eq!(rx.recv_timeout(LIMIT), Ok(7));
        assert_eq!(receive(&sent), Ok(()));
    }
}

#[test]
fn send_and_recv_of_two_contexts_meet() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    let (tx, rx) = bounded(0);
    let sent = spawn({
        let ctx = ctx.clone();
        move || (0..1000).try_for_each(|number| ctx.send(&tx, number))
    });
    assert!(ctx.iter(&rx).eq(0..1000));
    assert_eq!(receive(&sent), Ok(()));
    assert_eq!(ctx.recv(&rx), Err(RecvError::Disconnected));
}

#[test]
fn recv_on_done_context_ignores_message() {
    for (ctx, err) in done_contexts() {
        for (tx, rx) in [bounded(1), unbounded()] {
            tx.send(1).unwrap();
            for _ in 0..ROUNDS {
                assert_eq!(ctx.recv(&rx), Err(RecvError::Done(err)), "{ctx}");
                assert_eq!(ctx.iter(&rx).next(), None, "{ctx}");
            }
            assert_eq!(rx.try_recv(), Ok(1), "{ctx}");
        }
        let time = after(Duration::ZERO);
        for _ in 0..ROUNDS {
            assert_eq!(ctx.recv(&time), Err(RecvError::Done(err)), "{ctx}");
        }
        time.recv_timeout(LIMIT).expect("it has not been taken");
    }
}

#[test]
fn recv_on_done_context_ignores_waiting_sender() {
    for (ctx, err) in done_contexts() {
        let (tx, rx) = bounded(0);
        let sent = block(move || tx.send(1));
        for _ in 0..ROUNDS {
            assert_eq!(ctx.recv(&rx), Err(RecvError::Done(err)), "{ctx}");
        }
        assert_eq!(rx.try_recv(), Ok(1), "{ctx}");
        assert_eq!(receive(&sent), Ok(()));
    }
}

#[test]
fn send_on_done_context_ignores_capacity() {
    for (ctx, err) in done_contexts() {
        for (tx, rx) in [bounded(1), unbounded()] {
            for _ in 0..ROUNDS {
                assert_eq!(ctx.send(&tx, 1), Err(SendError::Done(1, err)), "{ctx}");
            }
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "{ctx}");
        }
    }
}

#[test]
fn send_on_done_context_ignores_waiting_receiver() {
    for (ctx, err) in done_contexts() {
        let (tx, rx) = bounded(0);
        let received = block(move || rx.recv());
        for _ in 0..ROUNDS {
            assert_eq!(ctx.send(&tx, 1), Err(SendError::Done(1, err)), "{ctx}");
        }
        assert_eq!(tx.try_send(2), Ok(()), "{ctx}");
        assert_eq!(receive(&received), Ok(2));
    }
}

#[test]
fn done_wins_over_disconnected() {
    for (ctx, err) in done_contexts() {
        for (tx, rx) in channels() {
            drop(tx);
            assert_eq!(ctx.recv(&rx), Err(RecvError::Done(err)), "{ctx}");
        }
        for (tx, rx) in channels() {
            drop(rx);
            assert_eq!(ctx.send(&tx, 1), Err(SendError::Done(1, err)), "{ctx}");
        }
    }
}

// Threads that use one context notice one after the other that it is done, and drop their channels.
// For the other threads that must not look like the end of the work.

#[test]
fn recv_prefers_done_to_senders_it_disconnects() {
    for round in 0..1000 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (tx, rx) = bounded(0);
        let workers = [(); 4].map(|()| {
            let (ctx, rx) = (ctx.clone(), rx.clone());
            spawn(move || loop {
                if let Err(err) = ctx.recv(&rx) {
                    return err;
                }
            })
        });
        // They are at different steps when the sender is dropped.
        (0..round % 100).for_each(|message| tx.send(message).unwrap());
        cancel.cancel();
        drop(tx);
        for ended in workers {
            assert_eq!(receive(&ended), CANCELED, "in round {round}");
        }
    }
}

#[test]
fn send_prefers_done_to_receivers_it_disconnects() {
    for round in 0..3000 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (tx, rx) = bounded(round % 3);
        let ended = spawn(move || loop {
            if let Err(err) = ctx.send(&tx, 1) {
                return err;
            }
        });
        rx.iter().take(round % 100).for_each(drop);
        cancel.cancel();
        drop(rx);
        assert_eq!(receive(&ended), canceled(1), "in round {round}");
    }
}

#[test]
fn recv_returns_when_last_sender_is_dropped() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    for (tx, rx) in [bounded(2), unbounded()] {
        tx.send(1).unwrap();
        drop(tx);
        assert_eq!(ctx.recv(&rx), Ok(1));
        assert_eq!(ctx.recv(&rx), Err(RecvError::Disconnected));
    }
    for (tx, rx) in channels() {
        let ctx = ctx.clone();
        let received = block(move || ctx.recv(&rx));
        drop(tx);
        assert_eq!(receive(&received), Err(RecvError::Disconnected));
    }
}

#[test]
fn send_returns_when_last_receiver_is_dropped() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    for (tx, rx) in channels() {
        drop(rx);
        assert_eq!(ctx.send(&tx, 1), Err(SendError::Disconnected(1)));
    }
    for (tx, rx) in [full(), bounded(0)] {
        let ctx = ctx.clone();
        let sent = block(move || ctx.send(&tx, 7));
        drop(rx);
        assert_eq!(receive(&sent), Err(SendError::Disconnected(7)));
    }
}

/// The message itself is returned, and dropped by nothing but its new owner.
#[test]
fn send_error_returns_message() {
    let message = Arc::new(());
    let check = |refused: Result<(), SendError<Arc<()>>>, err: Option<Error>| {
        let refused = refused.unwrap_err();
        assert_eq!(Arc::strong_count(&message), 2);
        match &refused {
            SendError::Done(_, why) => assert_eq!(Some(*why), err),
            SendError::Disconnected(_) => assert_eq!(None, err),
            other => panic!("{other:?}"),
        }
        let back = refused.into_inner();
        assert!(Arc::ptr_eq(&back, &message));
        drop(back);
        assert_eq!(Arc::strong_count(&message), 1);
    };

    let background = Context::background();
    let (tx, rx) = bounded(1);
    check(
        cancelled().send(&tx, message.clone()),
        Some(Error::Canceled),
    );
    drop(rx);
    check(background.send(&tx, message.clone()), None);

    let (tx, rx) = bounded(0);
    let (ctx, cancel) = background.with_cancel();
    let sent = block({
        let (tx, message) = (tx.clone(), message.clone());
        move || ctx.send(&tx, message)
    });
    cancel.cancel();
    check(receive(&sent), Some(Error::Canceled));
    let sent = block({
        let (tx, message) = (tx.clone(), message.clone());
        move || background.send(&tx, message)
    });
    drop(rx);
    check(receive(&sent), None);
}

#[test]
fn send_moves_message() {
    let message = Arc::new(());
    let (tx, rx) = unbounded();
    let ctx = Context::background();
    ctx.send(&tx, message.clone()).unwrap();
    assert_eq!(Arc::strong_count(&message), 2);
    assert!(Arc::ptr_eq(&ctx.recv(&rx).unwrap(), &message));
    assert_eq!(Arc::strong_count(&message), 1);
}

#[test]
fn cancel_wakes_recv() {
    for (tx, rx) in channels() {
        for blocked in [false, true] {
            let (ctx, cancel) = Context::background().with_cancel();
            let rx = rx.clone();
            let received = run(blocked, move || ctx.recv(&rx));
            cancel.cancel();
            assert_eq!(receive(&received), Err(CANCELED));
        }
        drop(tx);
    }
}

#[test]
fn cancel_wakes_send() {
    for (tx, rx) in [full(), bounded(0)] {
        let before = rx.len();
        for blocked in [false, true] {
            let (ctx, cancel) = Context::background().with_cancel();
            let tx = tx.clone();
            let sent = run(blocked, move || ctx.send(&tx, 7));
            cancel.cancel();
            let refused = Err(SendError::Done(7, Error::Canceled));
            assert_eq!(receive(&sent), refused);
        }
        assert_eq!(rx.len(), before);
        assert!(rx.try_iter().all(|message| message != 7));
    }
}

#[test]
fn cancel_ends_iter() {
    for (tx, rx) in [bounded(2), unbounded()] {
        tx.send(1).unwrap();
        tx.send(2).unwrap();
        for blocked in [false, true] {
            let (ctx, cancel) = Context::background().with_cancel();
            let collected = run(blocked, {
                let rx = rx.clone();
                move || ctx.iter(&rx).collect::<Vec<_>>()
            });
            cancel.cancel();
            let mut all = receive(&collected);
            all.extend(rx.try_iter());
            assert_eq!(all, [1, 2]);
            all.iter().for_each(|message| tx.send(*message).unwrap());
        }
    }
}

/// A call that was blocked when the context was cancelled takes no later message.
#[test]
#[cfg(target_os = "linux")] // to know that it was
fn what_is_sent_after_the_end_stays_in_the_channel() {
    for _ in 0..20 {
        for (tx, rx) in [bounded(1), unbounded()] {
            let (ctx, cancel) = Context::background().with_cancel();
            let received = block({
                let rx = rx.clone();
                move || ctx.recv(&rx)
            });
            cancel.cancel();
            tx.send(1).unwrap();
            assert_eq!(receive(&received), Err(CANCELED));
            assert_eq!(rx.try_recv(), Ok(1));
        }
        let (ctx, cancel) = Context::background().with_cancel();
        let (tx, rx) = bounded(0);
        let received = block({
            let rx = rx.clone();
            move || ctx.recv(&rx)
        });
        cancel.cancel();
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(receive(&received), Err(CANCELED));
    }
}

#[test]
fn deadline_wakes_recv_and_send() {
    for (_tx, rx) in channels() {
        let start = Instant::now();
        let (ctx, _cancel) = Context::background().with_timeout(SOON);
        assert_eq!(ctx.recv(&rx), Err(LATE));
        assert!(start.elapsed() >= SOON);
    }
    for (tx, _rx) in [full(), bounded(0)] {
        let (ctx, _cancel) = Context::background().with_timeout(SOON);
        let late = Err(SendError::Done(7, Error::DeadlineExceeded));
        assert_eq!(ctx.send(&tx, 7), late);
    }
    let (ctx, _cancel) = Context::background().with_timeout(SOON);
    let (_tx, rx) = bounded::<u32>(1);
    assert_eq!(ctx.iter(&rx).count(), 0);
    assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
}

#[test]
fn parent_cancel_wakes_recv_and_send() {
    let (parent, cancel) = Context::background().with_cancel();
    let child = parent.with_timeout(HOUR).0.with_cancel().0;
    let (other, _cancel_other) = Context::background().with_cancel();
    let merged = other.merge(&parent).0;
    let (_tx, rx) = bounded::<u32>(1);
    let results = [parent, child, merged].map(|ctx| {
        let rx = rx.clone();
        block(move || ctx.recv(&rx))
    });
    cancel.cancel();
    for result in results {
        assert_eq!(receive(&result), Err(CANCELED));
    }
}

#[test]
fn custom_done_wakes_recv_and_send() {
    for derive in [Context::clone, |ctx: &Context| ctx.with_cancel().0] {
        let own = Noisy::new();
        let ctx = derive(&own.context());
        let (tx, rx) = bounded(0);
        let received = block({
            let (ctx, rx) = (ctx.clone(), rx.clone());
            move || ctx.recv(&rx)
        });
        let (full_in, _full) = full();
        let sent = block(move || ctx.send(&full_in, 7));
        own.cancel();
        assert_eq!(receive(&received), Err(LATE));
        let late = Err(SendError::Done(7, Error::DeadlineExceeded));
        assert_eq!(receive(&sent), late);
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
    }
}

#[test]
fn recv_ignores_messages_in_custom_done() {
    let own = Noisy::new();
    let ctx = own.context();
    let (tx, rx) = bounded(1);
    assert_eq!(ctx.send(&tx, 1), Ok(()));
    own.make_noise();
    assert_eq!(ctx.recv(&rx), Ok(1));

    let received = block({
        let (ctx, rx) = (ctx.clone(), rx.clone());
        move || ctx.recv(&rx)
    });
    own.make_noise();
    tx.send(2).unwrap();
    assert_eq!(receive(&received), Ok(2));

    tx.send(3).unwrap();
    let sent = block(move || ctx.send(&tx, 4));
    own.make_noise();
    assert_eq!(rx.recv_timeout(LIMIT), Ok(3));
    assert_eq!(receive(&sent), Ok(()));
    assert_eq!(rx.try_recv(), Ok(4));
}

#[test]
fn background_recv_and_send_are_the_channels_own() {
    let detached = cancelled().without_cancel();
    for ctx in [Context::background(), Context::todo(), detached] {
        let (tx, rx) = bounded(1);
        assert_eq!(ctx.send(&tx, 1), Ok(()));
        assert_eq!(ctx.recv(&rx), Ok(1));
        let received = block({
            let (ctx, rx) = (ctx.clone(), rx.clone());
            move || ctx.iter(&rx).collect::<Vec<_>>()
        });
        tx.send(2).unwrap();
        tx.send(3).unwrap();
        drop(tx);
        assert_eq!(receive(&received), [2, 3]);
        assert_eq!(ctx.recv(&rx), Err(RecvError::Disconnected));
    }
}

#[test]
fn recv_from_after_and_tick() {
    let (ctx, cancel) = Context::background().with_cancel();
    let start = Instant::now();
    assert!(ctx.recv(&after(SOON)).unwrap() >= start + SOON);
    let ticks = tick(Duration::from_millis(1));
    assert_eq!(ctx.iter(&ticks).take(3).count(), 3);
    cancel.cancel();
    assert_eq!(ctx.recv(&ticks), Err(CANCELED));
    assert_eq!(ctx.recv(&after(Duration::ZERO)), Err(CANCELED));
}

#[test]
fn recv_from_never_waits_for_done() {
    for blocked in [false, true] {
        let (ctx, cancel) = Context::background().with_cancel();
        let received = run(blocked, move || ctx.recv(&never::<u32>()));
        cancel.cancel();
        assert_eq!(receive(&received), Err(CANCELED));
    }
    let (ctx, _cancel) = Context::background().with_timeout(SOON);
    assert_eq!(ctx.recv(&after(HOUR)), Err(LATE));
    assert_eq!(ctx.recv(&never::<u32>()), Err(LATE));
}

#[test]
fn iter_is_fused() {
    fn fused<T>(iter: impl FusedIterator<Item = T>) -> impl FusedIterator<Item = T> {
        iter
    }
    let (ctx, cancel) = Context::background().with_cancel();
    let (tx, rx) = unbounded();
    (1..=10).for_each(|number| tx.send(number).unwrap());
    let mut iter = fused(ctx.iter(&rx));
    assert_eq!(iter.next(), Some(1));
    cancel.cancel();
    assert_eq!(iter.next(), None);
    assert_eq!(iter.next(), None);
    assert_eq!(rx.len(), 9);

    drop(tx);
    let background = Context::background();
    let mut iter = fused(background.iter(&rx));
    assert!(iter.by_ref().eq(2..=10));
    assert_eq!(iter.next(), None);
}

/// Every message is received once, or still in the channel, or returned to its sender.
#[test]
fn concurrent_cancels_lose_and_double_no_message() {
    for (tx, rx) in [bounded(0), bounded(1), bounded(64), unbounded()] {
        for stop_at in [0, 1, 50, 3000] {
            share_and_stop(&tx, &rx, stop_at);
        }
    }
}

/// Eight threads share a channel, until that many messages have been received.
fn share_and_stop(tx: &Sender<u32>, rx: &Receiver<u32>, stop_at: usize) {
    const SENDERS: u32 = 4;
    let (ctx, cancel) = Context::background().with_cancel();
    let (news_in, news) = unbounded();
    let start = Arc::new(Barrier::new(2 * SENDERS as usize + 1));

    let receivers = (0..SENDERS).map(|_| {
        let (ctx, rx, news, start) = (ctx.clone(), rx.clone(), news_in.clone(), start.clone());
        spawn(move || {
            start.wait();
            let mut received = Vec::new();
            loop {
                match ctx.recv(&rx) {
                    Ok(message) => received.push(message),
                    Err(err) => return (received, err),
                }
                let _ = news.send(());
            }
        })
    });
    let receivers: Vec<_> = receivers.collect();
    let senders = (0..SENDERS).map(|sender| {
        let (ctx, tx, start) = (ctx.clone(), tx.clone(), start.clone());
        spawn(move || {
            start.wait();
            for message in (sender..).step_by(SENDERS as usize) {
                if let Err(refused) = ctx.send(&tx, message) {
                    // The next message of this thread, and all after it, were never sent.
                    assert_eq!(refused, SendError::Done(message, Error::Canceled));
                    return message;
                }
            }
            unreachable!("the numbers do not end so soon");
        })
    });
    let senders: Vec<_> = senders.collect();

    start.wait();
    (0..stop_at).for_each(|_| receive(&news));
    cancel.cancel();

    let mut found = BTreeMap::new();
    for receiver in receivers {
        let (received, err) = receive(&receiver);
        assert_eq!(err, CANCELED);
        for message in received {
            *found.entry(message).or_insert(0) += 1;
        }
    }
    let ends: Vec<u32> = senders.iter().map(receive).collect();
    for message in rx.try_iter() {
        *found.entry(message).or_insert(0) += 1;
    }
    let sent = (0..SENDERS)
        .zip(ends)
        .flat_map(|(sender, end)| (sender..end).step_by(SENDERS as usize));
    let sent: BTreeMap<u32, u32> = sent.map(|message| (message, 1)).collect();
    assert_eq!(found, sent);
}

#[test]
fn errors_display_what_happened() {
    let receiving = "receiving on an empty and disconnected channel";
    let sending = "sending on a disconnected channel";
    let texts = [
        (CANCELED.to_string(), "context canceled"),
        (LATE.to_string(), "context deadline exceeded"),
        (RecvError::Disconnected.to_string(), receiving),
        (canceled(Silent).to_string(), "context canceled"),
        (late(Silent).to_string(), "context deadline exceeded"),
        (SendError::Disconnected(Silent).to_string(), sending),
    ];
    for (text, expected) in texts {
        assert_eq!(text, expected);
    }
    assert_eq!(format!("{:>20}", CANCELED), "    context canceled");
    let padded = format!("{:<35}|", SendError::Disconnected(Silent));
    assert_eq!(padded, format!("{sending}  |"));
}

#[test]
fn errors_convert_into_io_error() {
    let expected = [
        (ErrorKind::Other, "context canceled"),
        (ErrorKind::TimedOut, "context deadline exceeded"),
        (
            ErrorKind::BrokenPipe,
            "receiving on an empty and disconnected channel",
        ),
        (ErrorKind::Other, "context canceled"),
        (ErrorKind::TimedOut, "context deadline exceeded"),
        (ErrorKind::BrokenPipe, "sending on a disconnected channel"),
    ];
    let errors = [
        io::Error::from(CANCELED),
        LATE.into(),
        RecvError::Disconnected.into(),
        canceled(Silent).into(),
        late(Silent).into(),
        SendError::Disconnected(Silent).into(),
    ];
    for (err, (kind, text)) in errors.iter().zip(expected) {
        assert_eq!((err.kind(), err.to_string().as_str()), (kind, text));
    }
    // The context's own error can still be distinguished from others of its kind.
    for (err, own) in [
        (&errors[0], Error::Canceled),
        (&errors[4], Error::DeadlineExceeded),
    ] {
        assert_eq!(err.get_ref().unwrap().downcast_ref(), Some(&own));
    }
    let disconnected = errors[2].get_ref().unwrap().downcast_ref();
    assert_eq!(disconnected, Some(&RecvError::Disconnected));
}

#[test]
fn io_error_from_send_error_drops_message() {
    let message = Arc::new(());
    for refused in [
        canceled(message.clone()),
        SendError::Disconnected(message.clone()),
    ] {
        let _err = io::Error::from(refused);
    }
    assert_eq!(Arc::strong_count(&message), 1);
}

#[test]
fn errors_work_with_question_mark() {
    fn as_io() -> io::Result<u32> {
        let (tx, rx) = bounded(1);
        Context::background().send(&tx, 1)?;
        Ok(cancelled().recv(&rx)?)
    }
    fn boxed() -> Result<u32, Box<dyn StdError + Send + Sync>> {
        let (tx, rx) = bounded(1);
        Context::background().send(&tx, 1)?;
        Ok(cancelled().recv(&rx)?)
    }
    assert_eq!(as_io().unwrap_err().to_string(), "context canceled");
    assert_eq!(boxed().unwrap_err().downcast_ref(), Some(&CANCELED));
}

#[test]
fn send_error_debug_does_not_need_debug_message() {
    assert_eq!(format!("{:?}", canceled(Silent)), "Done(.., Canceled)");
    let disconnected = SendError::Disconnected(Silent);
    assert_eq!(format!("{disconnected:?}"), "Disconnected(..)");
    assert_eq!(format!("{CANCELED:?}"), "Done(Canceled)");

    let (_tx, rx) = bounded::<Silent>(1);
    let ctx = Context::background();
    let iter: Iter<'_, Silent> = ctx.iter(&rx);
    let text = format!("{iter:?}");
    assert!(text.contains("context.Background"), "{text}");
    let (tx, _) = bounded(0);
    let refused = ctx.send(&tx, Silent).unwrap_err();
    assert!(matches!(refused, SendError::Disconnected(Silent)));
}

#[test]
fn errors_are_copy_and_eq() {
    fn is_error<E: StdError + Copy + Eq + Send + Sync + Debug + 'static>(_: E) {}
    is_error(CANCELED);
    is_error(canceled(1));
    assert_ne!(CANCELED, LATE);
    assert_ne!(canceled(1), canceled(2));
    assert_ne!(canceled(1), late(1));
    assert_ne!(canceled(1), SendError::Disconnected(1));
}

fn run<T: Send + 'static>(blocked: bool, call: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    match blocked {
        true => block(call),
        false => spawn(call),
    }
}

/// An empty channel of each kind.
fn channels() -> [(Sender<u32>, Receiver<u32>); 3] {
    [bounded(0), bounded(1), unbounded()]
}

/// A channel without capacity for another message.
fn full() -> (Sender<u32>, Receiver<u32>) {
    let (tx, rx) = bounded(2);
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    (tx, rx)
}

/// A context for each way in which a context can be done.
fn done_contexts() -> Vec<(Context, Error)> {
    let (asked, cancel) = Context::background().with_cancel();
    drop(asked.done()); // the sender of its done channel, to be dropped
    cancel.cancel();
    let late = Context::background().with_timeout(Duration::ZERO).0;
    let own = Noisy::new();
    let custom = own.context();
    own.cancel();
    vec![
        (cancelled().with_value(Key, ()), Error::Canceled),
        (asked, Error::Canceled),
        (late, Error::DeadlineExceeded),
        (custom.with_cancel().0, Error::DeadlineExceeded),
        (custom, Error::DeadlineExceeded),
    ]
}

#[derive(PartialEq, Eq)]
struct Key;

impl go_context::Key for Key {
    type Value = ();
}

/// A context whose done channel carries messages before it is closed.
struct Noisy {
    open: Sender<()>,
    done: Receiver<()>,
}

impl Noisy {
    fn new() -> Noisy {
        let (open, done) = unbounded();
        let noisy = Noisy { open, done };
        noisy.make_noise();
        noisy
    }

    fn context(&self) -> Context {
        Context::custom(NoisyContext(self.done.clone()))
    }

    fn make_noise(&self) {
        (0..3).for_each(|_| self.open.send(()).unwrap());
    }

    fn cancel(self) {
        self.make_noise();
    }
}

struct NoisyContext(Receiver<()>);

impl CustomContext for NoisyContext {
    fn done(&self) -> Receiver<()> {
        self.0.clone()
    }
    fn err(&self) -> Option<Error> {
        Some(Error::DeadlineExceeded)
    }
}

/// A message without `Debug`, `Clone` and `PartialEq`.
struct Silent;

fn canceled<T>(message: T) -> SendError<T> {
    SendError::Done(message, Error::Canceled)
}

fn late<T>(message: T) -> SendError<T> {
    SendError::Done(message, Error::DeadlineExceeded)
}
