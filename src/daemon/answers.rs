//! Answers what people ask on the control socket: at once, or when what they wait for has come.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crossbeam_channel::Sender;
use serde_json::json;

use crate::command::{Answer, Command, PROTOCOL, Side};
use crate::control::Call;
use crate::daemon::clerk::Job;
use crate::daemon::shell::Shell;
use crate::diagnostic::Diagnostic;
use crate::engine::{Engine, Input, Snapshot};
use crate::request::RunId;
use crate::status::Status;
use crate::time::Time;

/// Who waits for what.
#[derive(Default)]
pub struct Waiting {
    runs: BTreeMap<RunId, Vec<Sender<Answer>>>,
    /// For a fetch and the scan after it.
    looks: Vec<(Sender<Answer>, Looked)>,
}

/// How far a look at remote and inbox has come.
#[derive(Clone, Copy, Default)]
struct Looked {
    fetched: bool,
    scanned: bool,
}

impl Waiting {
    /// A run is final: whoever waits is told.
    pub fn is_final(&mut self, status: &Status) {
        for waiter in self.runs.remove(&status.id).into_iter().flatten() {
            // A client that went away is not told.
            let _ = waiter.try_send(final_answer(status));
        }
    }

    /// A fetch or a scan was answered.
    pub fn looked(&mut self, fetched: bool, snapshot: impl Fn() -> Snapshot) {
        self.looks.retain_mut(|(reply, looked)| {
            looked.fetched |= fetched;
            looked.scanned |= !fetched;
            let done = looked.fetched && looked.scanned;
            if done {
                let _ = reply.try_send(Answer::ok(json!({ "git": snapshot().git, "degraded": snapshot().degraded })));
            }
            !done
        });
    }
}

fn final_answer(status: &Status) -> Answer {
    Answer::ok(json!({ "status": status }))
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
}

impl Shell {
    /// Answers a call, or keeps it; what it asks of the engine is returned.
    pub fn answer(&mut self, call: Call, engine: &Engine, facts: &Facts) -> Option<Input> {
        let by = call.peer.user.clone();
        let say = |answer: Answer| drop(call.reply.try_send(answer));
        match call.command {
            Command::Status => {
                say(Answer::ok(self.status(engine, facts)));
                None
            }
            Command::Wait { id } => {
                // The second look is for a run whose folder is there while it is still being taken: the clerk, who takes,
                // answers in between.
                let ended = if self.book.has(id) { None } else { self.recorded(id) };
                match ended {
                    Some(status) => say(final_answer(&status)),
                    None if self.book.has(id) => self.waiting.runs.entry(id).or_default().push(call.reply),
                    None => say(unknown(id)),
                }
                None
            }
            Command::Cancel { id, reason } => {
                if engine.knows(id) {
                    say(Answer::ok(json!({ "id": id })));
                    return Some(Input::Cancel { id, by, reason });
                }
                say(match self.recorded(id) {
                    Some(status) => refused(
                        "E0404",
                        format!("run `{}` is already {}", id.short(), status.status.word()),
                        "dispatcher show shows how it ended",
                        75,
                    ),
                    None if self.book.has(id) => {
                        let over = self.book.with(id, |page| page.status.status.is_final());
                        let how = if over == Some(true) { "has just ended" } else { "is just being taken: ask again" };
                        refused("E0404", format!("run `{}` {how}", id.short()), "dispatcher show", 75)
                    }
                    None => unknown(id),
                });
                None
            }
            Command::Pause { reason } => {
                say(Answer::ok(json!({})));
                Some(Input::Pause { by, reason })
            }
            Command::Resume { side } => {
                let decided = side.map_or(Ok(()), |side| self.decide(side));
                if let Err(problem) = decided {
                    let help = problem.help.first().map_or("dispatcher status", String::as_str);
                    say(refused(problem.code, problem.message.clone(), help, 75));
                    return None;
                }
                say(Answer::ok(json!({})));
                Some(Input::Resume { by })
            }
            Command::Drain => {
                say(Answer::ok(json!({ "running": engine.running() })));
                Some(Input::Drain { by })
            }
            Command::Fetch => {
                self.waiting.looks.push((call.reply, Looked::default()));
                Some(Input::FetchNow)
            }
        }
    }

    fn decide(&self, side: Side) -> Result<(), Diagnostic> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let stopping = || Diagnostic::new("E0707", "the dispatcher is stopping");
        self.records.send(Job::Decide(side, reply)).map_err(|_| stopping())?;
        answer.recv().unwrap_or_else(|_| Err(stopping()))
    }

    /// How a run ended that is recorded.
    fn recorded(&self, id: RunId) -> Option<Status> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.records.send(Job::Recorded(id, reply)).ok()?;
        answer.recv().ok().flatten()
    }

    fn status(&self, engine: &Engine, facts: &Facts) -> serde_json::Value {
        let now = self.clock.now();
        let mut body = serde_json::to_value(engine.snapshot(now)).unwrap_or_default();
        body["version"] = env!("CARGO_PKG_VERSION").into();
        body["pid"] = std::process::id().into();
        body["host"] = facts.host.clone().into();
        body["user"] = facts.user.clone().into();
        body["root"] = facts.root.display().to_string().into();
        body["since"] = facts.since.to_string().into();
        body["up_ms"] = u64::try_from(now.mono.as_millis()).unwrap_or(u64::MAX).into();
        body
    }
}

fn unknown(id: RunId) -> Answer {
    refused("E0102", format!("no run is called `{id}`"), "dispatcher list", 66)
}
