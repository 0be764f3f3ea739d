use std::{error::Error, sync::Mutex, time::Duration};

use go_context::crossbeam_channel::{bounded, RecvTimeoutError};
use go_context::Context;
use postgres::{Client, Config, NoTls};

pub struct Database {
    pub config: Config,
    /// Connections that can be used again.
    pub idle: Mutex<Vec<Client>>,
}

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

impl Database {
    /// Runs queries that end when the context is done.
    pub fn run<T>(
        &self,
        ctx: &Context,
        queries: impl FnOnce(&mut Client) -> Result<T>,
    ) -> Result<T> {
        ctx.check()?;
        let idle = self.idle.lock().unwrap().pop();
        let mut client = match idle.filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.config.connect(NoTls)?,
        };
        let token = client.cancel_token();
        let (running, ended) = bounded::<()>(0);
        let pause = Duration::from_millis(50);
        let result = ctx.interruptible(
            move || loop {
                // Has no effect between two queries, so repeat it.
                let _ = token.cancel_query(NoTls);
                let ended = ended.recv_timeout(pause);
                if ended == Err(RecvTimeoutError::Disconnected) {
                    break;
                }
            },
            || {
                let _running = running; // dropped at the end
                queries(&mut client)
            },
        );
        // A late cancellation would end the next query.
        if ctx.err().is_none() {
            self.idle.lock().unwrap().push(client);
        }
        result
    }
}
