//! Signals as values on a channel. Owns the process's dispositions of TERM, INT, HUP and USR1; decides nothing.
//!
//! SIGPIPE needs nothing here: Rust's runtime ignores it before `main`, so that a closed pipe is an error of the write.

use std::io;

use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

/// What a signal asks of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: stop; a second one, at once.
    Terminate,
    /// HUP: read configuration and router again.
    Reload,
    /// USR1: fetch now.
    Fetch,
}

/// Signals are caught while this lives; later ones are ignored, never deadly.
pub struct Listener {
    handle: Handle,
}

impl Listener {
    /// Catches signals from now on and sends each to `to`. Equal ones that come at the same moment may be sent once, as
    /// the kernel itself does.
    ///
    /// # Errors
    /// Where the system refuses a handler or a thread.
    pub fn start(to: Sender<Signal>) -> io::Result<Self> {
        // A fixed list: signal-hook aborts the process for a signal that cannot be caught.
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
        let handle = signals.handle();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for number in signals.forever() {
                let signal = match number {
                    SIGHUP => Signal::Reload,
                    SIGUSR1 => Signal::Fetch,
                    _ => Signal::Terminate,
                };
                if to.send(signal).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { handle })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.handle.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_signal_comes_as_its_value() {
        let (to, from) = crossbeam_channel::bounded(4);
        let listener = Listener::start(to).unwrap();
        for (number, expect) in [
            (SIGTERM, Signal::Terminate),
            (SIGINT, Signal::Terminate),
            (SIGHUP, Signal::Reload),
            (SIGUSR1, Signal::Fetch),
        ] {
            signal_hook::low_level::raise(number).unwrap();
            assert_eq!(from.recv_timeout(Duration::from_secs(10)), Ok(expect));
        }
        drop(listener);
        assert!(from.recv_timeout(Duration::from_secs(10)).is_err(), "the thread ends and lets the channel go");
    }

    #[test]
    fn a_closed_pipe_is_an_error_and_not_deadly() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).unwrap().trim();
        let bit = 1_u64 << (signal_hook::consts::SIGPIPE - 1);
        assert_ne!(u64::from_str_radix(ignored, 16).unwrap() & bit, 0, "{ignored}");
    }
}
