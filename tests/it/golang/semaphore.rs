//! `golang.org/x/sync/semaphore`: its one rule about contexts. Tokens in a channel make a
//! semaphore.

use go_context::crossbeam_channel::{bounded, select_biased, Receiver};
use go_context::{Context, Error};

/// Takes a token, unless the context is done; then it takes none, even if one is free.
fn acquire(ctx: &Context, tokens: &Receiver<()>) -> Result<(), Error> {
    select_biased! {
        recv(ctx.done()) -> _ => Err(ctx.err().unwrap()),
        recv(tokens) -> _ => Ok(()),
    }
}

#[test]
fn weighted_acquire_canceled() {
    let (release, tokens) = bounded(2);
    release.send(()).unwrap();
    release.send(()).unwrap();
    let (ctx, cancel) = Context::background().with_cancel();
    assert_eq!(acquire(&ctx, &tokens), Ok(()));
    assert_eq!(tokens.len(), 1);
    cancel.cancel();
    for _ in 0..100 {
        assert_eq!(acquire(&ctx, &tokens), Err(Error::Canceled));
    }
    assert_eq!(tokens.len(), 1);
}
