//! `context/net_test.go`: an expired deadline as an I/O error.

use std::io;

use go_context::Error;

/// Go's error is a `net.Error` that is a timeout. Here the kind shows that.
#[test]
fn deadline_exceeded_is_net_error() {
    let err = io::Error::from(Error::DeadlineExceeded);
    assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    let inner = err.get_ref().and_then(|inner| inner.downcast_ref());
    assert_eq!(inner, Some(&Error::DeadlineExceeded));
    assert!(Error::DeadlineExceeded.is_timeout());
}
