//! What is there to be asked: paths, methods, answers. Owns the pace at which refusals are told of; tells nobody outside
//! why a secret did not fit, nor any detail of what holds work.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::hook::{self, Check, Meaning, Proof};
use super::wire::{NoRequest, Request, Response, Wire};
use crate::config::read_secrets;
use crate::diagnostic::Diagnostic;

/// The main loop answers within this, or it is not well: it waits for nothing that takes longer.
const BUDGET: Duration = Duration::from_secs(5);
/// Between two lines about refused requests.
const TELL: Duration = Duration::from_secs(60);

/// What the main loop is asked or told.
#[derive(Debug)]
pub enum Call {
    /// Somebody pushed to the branch, which is at this commit now, as far as they say.
    Pushed(Option<String>),
    /// How do you do?
    Health(Sender<Health>),
    /// For a person.
    Warn(Diagnostic),
}

/// How the main loop does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why no new work is taken, in single words; empty where it is taken.
    pub holds: Vec<&'static str>,
}

/// The paths and what is behind them.
pub struct Site {
    calls: Sender<Call>,
    branch: String,
    secret_file: Option<PathBuf>,
    refused: Mutex<Pace>,
    unread: Mutex<Pace>,
}

/// Tells of something at most once in a while.
#[derive(Default)]
struct Pace {
    told: Option<Instant>,
    untold: u64,
}

impl Pace {
    /// How many there were since they were told of last, where it is time to tell of them.
    fn count(&mut self) -> Option<u64> {
        self.untold += 1;
        let now = Instant::now();
        if self.told.is_some_and(|told| now < told + TELL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Site {
    /// The hook is there only with a `secret_file`, which is read at every request: a new secret needs no restart.
    #[must_use]
    pub fn new(calls: Sender<Call>, branch: String, secret_file: Option<PathBuf>) -> Self {
        Self { calls, branch, secret_file, refused: Mutex::default(), unread: Mutex::default() }
    }

    /// Answers one request; reads its body where that is wanted.
    pub(super) fn answer(&self, request: &Request, peer: IpAddr, wire: &mut Wire) -> Result<Response, NoRequest> {
        let (methods, is_hook) = match request.path.as_str() {
            "/healthz" | "/readyz" => ("GET, HEAD", false),
            "/hooks/push" if self.secret_file.is_some() => ("POST", true),
            _ => return Ok(Response::new(404, "there is nothing here")),
        };
        if !methods.split(", ").any(|method| method == request.method) {
            return Ok(Response { allow: Some(methods), ..Response::new(405, format!("this answers {methods}")) });
        }
        if is_hook { self.push(request, peer, wire) } else { Ok(self.health(request.path == "/readyz")) }
    }

    fn health(&self, ready: bool) -> Response {
        let (reply, answer) = bounded(1);
        let deadline = Instant::now() + BUDGET;
        let asked = self.calls.send_deadline(Call::Health(reply), deadline).is_ok();
        match answer.recv_deadline(deadline) {
            Ok(Health { holds }) if asked && ready && !holds.is_empty() => {
                Response::new(503, format!("not ready: {}", holds.join(", ")))
            }
            Ok(_) => Response::new(200, if ready { "ready" } else { "ok" }),
            Err(_) => Response::new(503, format!("no answer within {} s", BUDGET.as_secs())),
        }
    }

    fn push(&self, request: &Request, peer: IpAddr, wire: &mut Wire) -> Result<Response, NoRequest> {
        let Some(proof) = Proof::of(request) else { return Ok(self.refuse(peer)) };
        if request.length > hook::LONGEST_BODY {
            return Ok(Response::new(413, format!("at most {} MiB", hook::LONGEST_BODY >> 20)));
        }
        let secrets = match self.secret_file.as_deref().map(read_secrets) {
            Some(Ok(secrets)) => secrets,
            Some(Err(problem)) => {
                let due = self.unread.lock().unwrap_or_else(PoisonError::into_inner).count().is_some();
                if due {
                    self.warn(problem);
                }
                return Ok(Response::new(503, "the hook is out of order"));
            }
            None => return Ok(Response::new(404, "there is nothing here")),
        };
        let mut check = Check::new(proof, &secrets);
        wire.body(request.length, &mut |piece| check.feed(piece))?;
        let Some(beginning) = check.beginning() else { return Ok(self.refuse(peer)) };
        Ok(match hook::meaning(request, &beginning, &self.branch) {
            Meaning::Ping => Response::new(200, "pong"),
            Meaning::Nothing => Response::new(204, ""),
            // A loop that has no room for this soon will not fetch soon: the forge may try again.
            Meaning::Push(tip) => match self.calls.send_timeout(Call::Pushed(tip), BUDGET) {
                Ok(()) => Response::new(202, "looking"),
                Err(_) => Response::new(503, format!("no answer within {} s", BUDGET.as_secs())),
            },
        })
    }

    /// Missing, malformed or wrong: the answer does not say which.
    fn refuse(&self, peer: IpAddr) -> Response {
        let due = self.refused.lock().unwrap_or_else(PoisonError::into_inner).count();
        if let Some(count) = due {
            let message = format!(
                "the push hook refused {count} {} without the right secret, the newest from {peer}",
                if count == 1 { "request" } else { "requests" }
            );
            self.warn(Diagnostic::new("E0721", message));
        }
        Response::new(403, "no")
    }

    /// A loop that has no room for it has other troubles.
    fn warn(&self, problem: Diagnostic) {
        let _ = self.calls.try_send(Call::Warn(problem));
    }
}
