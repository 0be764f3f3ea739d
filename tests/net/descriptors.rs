//! File descriptors: `done_fd`, and what a thread keeps.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use go_context::net::DoneFd;
use go_context::{Context, Error};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use support::process::in_child_alone;
use support::{cancelled, test_name, HOUR};

fn is_readable(fd: &DoneFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
}

#[test]
fn done_fd_is_readable_once_done() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (child, _cancel) = ctx.with_timeout(HOUR);
    let fds = [&ctx, &ctx, &child].map(|ctx| ctx.done_fd().unwrap());
    assert!(!fds.iter().any(is_readable));
    cancel.cancel();
    assert!(fds.iter().all(is_readable));
    assert!(fds.iter().all(is_readable)); // for good
    assert!(is_readable(&child.done_fd().unwrap()));
    assert!(is_readable(&cancelled().done_fd().unwrap()));
    assert!(!is_readable(&Context::background().done_fd().unwrap()));
}

#[test]
fn done_fd_wakes_a_poll_at_the_deadline() {
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    let done = ctx.done_fd().unwrap();
    let mut fds = [PollFd::new(&done, PollFlags::IN)];
    assert_eq!(poll(&mut fds, None).unwrap(), 1);
    assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
}

/// It is no handle, like a receiver.
#[test]
fn done_fd_is_readable_when_the_context_is_dropped() {
    let (ctx, cancel) = Context::background().with_cancel();
    let done = ctx.done_fd().unwrap();
    drop((ctx, cancel));
    assert!(is_readable(&done));
}

#[test]
fn dropped_done_fd_leaves_no_descriptor() {
    in_child_alone(test_name!(), || {
        let (ctx, cancel) = Context::background().with_cancel();
        let before = open_files();
        let fds: Vec<_> = (0..100).map(|_| ctx.done_fd().unwrap()).collect();
        assert_eq!(open_files(), before + 100);
        drop(fds);
        assert_eq!(open_files(), before);
        let done = ctx.done_fd().unwrap();
        cancel.cancel();
        drop(done);
        assert_eq!(open_files(), before);
    });
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn ten_thousand_contexts_take_one_descriptor_for_each_thread() {
    in_child_alone(test_name!(), || {
        let streams: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let before = open_files();
        thread::scope(|s| {
            let threads = streams.iter().map(|(stream, _)| {
                s.spawn(move || {
                    for _ in 0..10_000 {
                        let (ctx, _cancel) =
                            Context::background().with_timeout(Duration::from_nanos(1));
                        ctx.io(stream).read(&mut [0; 1]).unwrap_err();
                    }
                    let short = Duration::from_micros(100);
                    for _ in 0..100 {
                        let (ctx, _cancel) = Context::background().with_timeout(short);
                        ctx.io(stream).read(&mut [0; 1]).unwrap_err();
                    }
                    open_files()
                })
            });
            let threads: Vec<_> = threads.collect();
            for thread in threads {
                assert!(thread.join().unwrap() <= before + 3);
            }
        });
        support::wait_until("the threads have ended", || open_files() == before);
    });
}

#[test]
fn child_process_inherits_no_descriptor() {
    in_child_alone(test_name!(), || {
        let (stream, _other) = UnixStream::pair().unwrap();
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
        ctx.io(&stream).read(&mut [0; 1]).unwrap_err();
        let _done = ctx.done_fd().unwrap();
        let list = Command::new("ls")
            .args(["-l", "/proc/self/fd"])
            .output()
            .unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        assert!(list.contains("/proc/"), "{list}");
        assert!(!list.contains("eventfd"), "{list}");
    });
}

#[test]
fn refused_descriptor_is_an_error_and_a_later_read_works() {
    in_child_alone(test_name!(), || {
        let (stream, mut other) = UnixStream::pair().unwrap();
        let (ctx, _cancel) = Context::background().with_timeout(HOUR);
        let mut full = Vec::new();
        let err = loop {
            match stream.as_fd().try_clone_to_owned() {
                Ok(fd) => full.push(fd),
                Err(err) => break err,
            }
        };
        let refused = ctx.io(&stream).read(&mut [0; 1]).unwrap_err();
        assert_eq!(refused.raw_os_error(), err.raw_os_error());
        assert!(ctx.done_fd().is_err());
        // What is ready needs none.
        io::Write::write_all(&mut other, b"x").unwrap();
        assert_eq!(ctx.io(&stream).read(&mut [0; 1]).unwrap(), 1);
        drop(full);
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
        let err = ctx.io(&stream).read(&mut [0; 1]).unwrap_err();
        assert_eq!(Error::find(&err), Some(Error::DeadlineExceeded));
    });
}

/// The thread-local waiter may be gone by then.
#[test]
fn read_in_destructor_of_a_thread_local() {
    struct ReadOnDrop(Option<(UnixStream, go_context::crossbeam_channel::Sender<io::Error>)>);
    impl Drop for ReadOnDrop {
        fn drop(&mut self) {
            if let Some((stream, result)) = self.0.take() {
                let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
                let err = ctx.io(stream).read(&mut [0; 1]).unwrap_err();
                result.send(err).unwrap();
            }
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<ReadOnDrop> = const { std::cell::RefCell::new(ReadOnDrop(None)) };
    }
    let (stream, _other) = UnixStream::pair().unwrap();
    let (send, result) = go_context::crossbeam_channel::bounded(1);
    let thread = thread::spawn(move || {
        // Made first, so dropped after the waiter.
        LAST.with(|last| last.borrow_mut().0 = Some((stream.try_clone().unwrap(), send)));
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
        ctx.io(stream).read(&mut [0; 1]).unwrap_err();
    });
    thread.join().unwrap();
    let err = support::receive(&result);
    assert_eq!(Error::find(&err), Some(Error::DeadlineExceeded));
}
