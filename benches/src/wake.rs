//! From just before `cancel()` until threads run that were blocked on the context.

use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, never, select, Receiver};

use crate::life::root;
use crate::{median, Figure, Measure};

const ROUNDS: usize = 40;
/// Long enough for all threads to block.
const LULL: Duration = Duration::from_millis(2);
const FIGURES: &[Figure] = &[Figure::ns("median"), Figure::ns("last")];

pub(crate) fn all() -> Vec<Measure> {
    measures(|threads| {
        wake_ups(
            threads,
            root,
            |(ctx, _)| wait_for(&ctx.done()),
            |(_, cancel)| cancel.cancel(),
        )
    })
}

/// One bare channel, whose sender is dropped.
pub(crate) fn floors() -> Vec<Measure> {
    measures(|threads| {
        wake_ups(
            threads,
            || {
                let (sender, done) = bounded::<()>(0);
                (done, Mutex::new(Some(sender)))
            },
            |(done, _)| wait_for(done),
            |(_, sender)| drop(sender.lock().unwrap().take()),
        )
    })
}

fn wait_for(done: &Receiver<()>) {
    let work = never::<()>();
    select! {
        recv(done) -> _ => {}
        recv(work) -> _ => unreachable!(),
    }
}

fn measures(run: impl Fn(usize) -> Vec<f64> + Copy + 'static) -> Vec<Measure> {
    [1, 8, 64]
        .map(|threads| {
            let name = format!("wake-up, threads={threads}");
            Measure::alone(name, FIGURES, move || run(threads))
        })
        .into()
}

/// Returns the median of all threads, and the median of the last of each round.
fn wake_ups<S: Sync>(
    threads: usize,
    make: impl Fn() -> S,
    wait: impl Fn(&S) + Sync,
    wake: impl Fn(&S),
) -> Vec<f64> {
    let rounds: Vec<S> = (0..ROUNDS).map(|_| make()).collect();
    let together = Barrier::new(threads + 1);
    let (begun, woken) = thread::scope(|s| {
        let waiters: Vec<_> = (0..threads)
            .map(|_| {
                s.spawn(|| {
                    let woken = rounds.iter().map(|round| {
                        together.wait();
                        wait(round);
                        let woken = Instant::now();
                        together.wait();
                        woken
                    });
                    woken.collect::<Vec<_>>()
                })
            })
            .collect();
        let begun = rounds.iter().map(|round| {
            together.wait();
            thread::sleep(LULL);
            let begun = Instant::now();
            wake(round);
            together.wait();
            begun
        });
        let begun: Vec<_> = begun.collect();
        let woken = waiters.into_iter().map(|waiter| waiter.join().unwrap());
        (begun, woken.collect::<Vec<_>>())
    });
    let after = |thread: &Vec<Instant>, i: usize| (thread[i] - begun[i]).as_nanos() as f64;
    let each = |i| woken.iter().map(move |thread| after(thread, i));
    let mut all: Vec<f64> = (0..ROUNDS).flat_map(each).collect();
    let mut last: Vec<f64> = (0..ROUNDS).map(|i| each(i).fold(0.0, f64::max)).collect();
    vec![median(&mut all), median(&mut last)]
}
