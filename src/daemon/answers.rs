//! Answers what people ask on the control socket: at once, or when what they wait for has come.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use crossbeam_channel::Sender;
use serde_json::json;

use crate::command::{Answer, Command, PROTOCOL, Side};
use crate::control::Call;
use crate::daemon::clerk::Job;
use crate::daemon::shell::Shell;
use crate::diagnostic::Diagnostic;
use crate::engine::{Engine, Input, Snapshot};
use crate::repo::{Decided, Integrated};
use crate::request::RunId;
use crate::status::Status;
use crate::time::Time;

/// Who waits for what.
#[derive(Default)]
pub struct Waiting {
    runs: BTreeMap<RunId, Vec<Sender<Answer>>>,
    /// For a fetch and the scan after it.
    looks: Vec<(Sender<Answer>, Missing)>,
}

/// What is still missing of a look at remote and inbox. One that was on its way before somebody asked does not count: it
/// may not have seen what they mean.
#[derive(Clone, Copy, Debug)]
struct Missing {
    fetches: u8,
    scan: Scan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scan {
    ToBegin,
    ToEnd(u64),
    Done,
}

impl Waiting {
    /// A run is final: whoever waits is told.
    pub fn is_final(&mut self, status: &Status) {
        for waiter in self.runs.remove(&status.id).into_iter().flatten() {
            // A client that went away is not told.
            let _ = waiter.try_send(final_answer(status));
        }
    }

    /// A scan was asked for, under this number.
    pub fn scan_begins(&mut self, token: u64) {
        for (_, missing) in &mut self.looks {
            if missing.scan == Scan::ToBegin {
                missing.scan = Scan::ToEnd(token);
            }
        }
    }

    /// A fetch was answered.
    pub fn fetched(&mut self, snapshot: impl Fn() -> Snapshot) {
        self.looks.iter_mut().for_each(|(_, missing)| missing.fetches = missing.fetches.saturating_sub(1));
        self.tell(snapshot);
    }

    /// Scans have ended.
    pub fn scanned(&mut self, tokens: &[u64], snapshot: impl Fn() -> Snapshot) {
        for (_, missing) in &mut self.looks {
            if matches!(missing.scan, Scan::ToEnd(wanted) if tokens.iter().any(|token| *token >= wanted)) {
                missing.scan = Scan::Done;
            }
        }
        self.tell(snapshot);
    }

    fn tell(&mut self, snapshot: impl Fn() -> Snapshot) {
        self.looks.retain(|(reply, missing)| {
            let done = missing.fetches == 0 && missing.scan == Scan::Done;
            if done {
                let now = snapshot();
                let _ = reply.try_send(Answer::ok(json!({ "git": now.git, "degraded": now.degraded })));
            }
            !done
        });
    }
}

/// What the clerk answers about a run that is not in the book any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// How did it end?
    End,
    /// It was to be cancelled.
    Cancel,
}

/// The answer where this is what git knows of the run.
#[must_use]
pub fn about(id: RunId, question: Question, status: Option<&Status>) -> Answer {
    match (status, question) {
        (Some(status), Question::End) => final_answer(status),
        (Some(status), Question::Cancel) => {
            let message = format!("run `{}` is already {}", id.short(), status.status.word());
            refused("E0404", message, &format!("dispatcher show {}     how it ended", id.short()), 75)
        }
        (None, _) => unknown(id),
    }
}

fn final_answer(status: &Status) -> Answer {
    Answer::ok(json!({ "status": status }))
}

/// About a run whose folder is seen before the engine has heard of it.
pub(super) fn being_taken(id: RunId) -> Answer {
    refused("E0405", format!("run `{}` is just being taken", id.short()), "ask again", 75)
}

fn refused(code: &str, message: String, help: &str, exit: i32) -> Answer {
    Answer::Error { v: PROTOCOL, code: code.to_owned(), message, help: vec![help.to_owned()], exit }
}

/// What does not change while the daemon lives.
pub struct Facts {
    /// Of the repository.
    pub root: PathBuf,
    /// When the daemon started.
    pub since: Time,
    /// The machine.
    pub host: String,
    /// Who handlers run as.
    pub user: String,
    /// Where health and the push hook are served.
    pub listens: Option<SocketAddr>,
}

impl Shell {
    /// Answers a call, or hands it on; what it asks of the engine is returned. Never waits: questions about what is in
    /// git are the clerk's, who answers them itself.
    pub fn answer(&mut self, call: Call, engine: &Engine, facts: &Facts) -> Option<Input> {
        let Call { command, peer, reply } = call;
        let by = peer.user;
        let say = |answer: Answer| drop(reply.try_send(answer));
        match command {
            Command::Status => {
                say(Answer::ok(self.status(engine, facts)));
                None
            }
            Command::Watch => {
                // The number first: an event that comes in between is told of twice rather than never.
                let seq = self.scribe.seq();
                let mut body = self.status(engine, facts);
                body["seq"] = seq.into();
                say(Answer::ok(body));
                None
            }
            Command::Wait { id } if self.book.has(id) => {
                self.waiting.runs.entry(id).or_default().push(reply);
                None
            }
            Command::Wait { id } => self.ask_clerk(Job::Recorded(id, Question::End, reply)),
            Command::Cancel { id, reason } if engine.knows(id) => {
                say(Answer::ok(json!({ "id": id })));
                Some(Input::Cancel { id, by, reason })
            }
            Command::Cancel { id, .. } => {
                let state = self.book.with(id, |page| page.status.status);
                match state {
                    Some(state) if state.is_final() => {
                        let message = format!("run `{}` has just ended: {}", id.short(), state.word());
                        say(refused("E0404", message, &format!("dispatcher show {}", id.short()), 75));
                        None
                    }
                    Some(_) => {
                        say(being_taken(id));
                        None
                    }
                    None => self.ask_clerk(Job::Recorded(id, Question::Cancel, reply)),
                }
            }
            Command::Pause { reason } => {
                say(Answer::ok(json!({})));
                Some(Input::Pause { by, reason })
            }
            Command::Resume { side: Some(side) } => {
                self.ask_clerk(Job::Decide(side, reply));
                Some(Input::Resume { by })
            }
            Command::Resume { side: None } => {
                // A pause is not all that can hold work back.
                say(Answer::ok(json!({ "degraded": engine.snapshot(self.clock.now()).degraded })));
                Some(Input::Resume { by })
            }
            Command::Drain => {
                say(Answer::ok(json!({ "running": engine.running() })));
                Some(Input::Drain { by })
            }
            Command::Fetch => {
                let fetches = if engine.fetching() { 2 } else { 1 };
                self.waiting.looks.push((reply, Missing { fetches, scan: Scan::ToBegin }));
                Some(Input::FetchNow)
            }
        }
    }

    /// The clerk answers; its queue has room for as many calls as there can be.
    fn ask_clerk(&self, job: Job) -> Option<Input> {
        drop(self.records.send(job));
        None
    }

    fn status(&self, engine: &Engine, facts: &Facts) -> serde_json::Value {
        let now = self.clock.now();
        let mut body = serde_json::to_value(engine.snapshot(now)).unwrap_or_default();
        body["version"] = env!("CARGO_PKG_VERSION").into();
        body["pid"] = std::process::id().into();
        body["host"] = facts.host.clone().into();
        body["user"] = facts.user.clone().into();
        body["listen"] = facts.listens.map(|address| address.to_string()).into();
        body["root"] = facts.root.display().to_string().into();
        body["since"] = facts.since.to_string().into();
        body["up_ms"] = u64::try_from(now.mono.as_millis()).unwrap_or(u64::MAX).into();
        self.vault.mask().json(&mut body);
        body
    }
}

/// The answer to a decision about a rewritten remote.
#[must_use]
pub fn decided(side: Side, outcome: Result<Decided, Diagnostic>) -> Answer {
    match outcome {
        Ok(Decided { outcome, kept }) => {
            let replayed = if let Integrated::Replayed { replayed, .. } = outcome { replayed } else { 0 };
            Answer::ok(json!({ "side": side, "kept": kept, "replayed": replayed }))
        }
        Err(problem) => {
            let help = problem.help.first().map_or("dispatcher status", String::as_str);
            refused(problem.code, problem.message.clone(), help, 75)
        }
    }
}

fn unknown(id: RunId) -> Answer {
    refused("E0102", format!("no run is called `{id}`"), "dispatcher list", 66)
}
