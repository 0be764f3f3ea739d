use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::{thread, time::Duration};

use go_context::crossbeam_channel::{bounded, Receiver};
use go_context::Context;

/// Waits for a child process. Kills it if the context is done first.
pub fn wait(ctx: &Context, child: &mut Child) -> io::Result<ExitStatus> {
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Err(err) = ctx.sleep(pause) {
            child.kill()?;
            let status = child.wait()?; // otherwise it stays a zombie
            if status.success() {
                return Ok(status); // it had exited before `kill`
            }
            return Err(err.into());
        }
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Runs a command and returns what it has printed.
pub fn output(ctx: &Context, command: &mut Command) -> io::Result<Output> {
    ctx.check()?;
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let status = wait(ctx, &mut child)?;
    // A process that the child has left behind may keep a pipe open.
    let end_of = |pipe: Receiver<_>| {
        pipe.recv_timeout(Duration::from_secs(1))
            .unwrap_or_else(|_| Err(io::Error::other("pipe still open")))
    };
    let (stdout, stderr) = (end_of(stdout)?, end_of(stderr)?);
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

/// Reads on a thread, because a child blocks while a pipe is full.
fn read_all<R>(mut pipe: R) -> Receiver<io::Result<Vec<u8>>>
where
    R: Read + Send + 'static,
{
    let (result_tx, result) = bounded(1);
    thread::spawn(move || {
        let mut data = Vec::new();
        let read = pipe.read_to_end(&mut data);
        result_tx.send(read.map(|_| data))
    });
    result
}
