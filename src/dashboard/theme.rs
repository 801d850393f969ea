//! Colours, glyphs and words of states: 16 colours and attributes only, and nothing depends on colour.

use ratatui::style::{Color, Modifier, Style};

use super::model::Run;
use crate::quantity::round_duration;
use crate::status::State;

/// How things look on this terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Colours may be used.
    pub colour: bool,
    /// Nothing beyond ASCII in the dashboard's own signs.
    pub ascii: bool,
}

impl Theme {
    /// A colour, where there are colours.
    #[must_use]
    pub const fn fg(self, color: Color) -> Style {
        if self.colour { Style::new().fg(color) } else { Style::new() }
    }

    /// What steps back.
    #[must_use]
    pub const fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What stands out.
    #[must_use]
    pub const fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The row that is selected, a banner. Its parts have no colours of their own: they would become grounds.
    #[must_use]
    pub const fn reverse(self) -> Style {
        let plain = Style::new().fg(Color::Reset).bg(Color::Reset);
        plain.add_modifier(Modifier::REVERSED).remove_modifier(Modifier::DIM)
    }

    /// Something needs care.
    #[must_use]
    pub const fn warning(self) -> Style {
        self.fg(Color::Yellow)
    }

    /// Something is wrong.
    #[must_use]
    pub const fn bad(self) -> Style {
        self.fg(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Something is as it should be.
    #[must_use]
    pub const fn good(self) -> Style {
        self.fg(Color::Green)
    }

    /// The style of a state.
    #[must_use]
    pub const fn state(self, state: State) -> Style {
        match state {
            State::Queued | State::Cancelled | State::Duplicate => self.dim(),
            State::Waiting => self.fg(Color::Yellow),
            State::Running => self.fg(Color::Cyan).add_modifier(Modifier::BOLD),
            State::Succeeded => self.fg(Color::Green),
            State::Failed | State::TimedOut | State::OutOfMemory | State::Crashed => self.bad(),
            State::Rejected | State::Expired => self.fg(Color::Magenta).add_modifier(Modifier::BOLD),
        }
    }

    /// The sign of a state.
    #[must_use]
    pub const fn glyph(self, state: State) -> &'static str {
        if !self.ascii {
            return state.glyph();
        }
        match state {
            State::Queued => ".",
            State::Waiting => "L",
            State::Running => ">",
            State::Succeeded => "+",
            State::Failed | State::TimedOut | State::OutOfMemory | State::Crashed => "x",
            State::Cancelled => "-",
            State::Rejected | State::Expired => "!",
            State::Duplicate => "=",
        }
    }

    /// A sign of the dashboard's own.
    #[must_use]
    pub const fn sign(self, sign: Sign) -> &'static str {
        match (sign, self.ascii) {
            (Sign::Good, false) => "✓",
            (Sign::Good, true) => "+",
            (Sign::Bad, false) => "✗",
            (Sign::Bad, true) => "x",
            (Sign::Rule, false) => "─",
            (Sign::Rule, true) => "-",
            (Sign::Side, false) => "│",
            (Sign::Side, true) => "|",
            (Sign::More, false) => "…",
            (Sign::More, true) => "~",
            (Sign::Full, false) => "█",
            (Sign::Full, true) => "#",
            (Sign::Empty, false) => "░",
            (Sign::Empty, true) => ".",
        }
    }
}

/// Signs of the dashboard's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// A line across.
    Rule,
    /// A line down.
    Side,
    /// Something is left out.
    More,
    /// Of a bar: done.
    Full,
    /// Of a bar: to be done.
    Empty,
}

/// How a run stands, in few words: what the state column shows. `place` is its place in the queue; `alive` says whether a
/// daemon is known to work on it.
#[must_use]
pub fn words(run: &Run, place: Option<usize>, alive: bool) -> String {
    let live = run.live.as_deref();
    match run.state {
        State::Running if !alive => "was running".to_owned(),
        State::Running => {
            let step = live.map_or("", |live| &*live.step.text);
            match live.and_then(|live| live.cancelling.as_ref()) {
                Some(by) => format!("ending, by {by}"),
                None if step.is_empty() => "running".to_owned(),
                None => match live.and_then(|live| live.step.of) {
                    Some((done, total)) => format!("running {done}/{total} {step}"),
                    None => format!("running {step}"),
                },
            }
        }
        State::Waiting => match live.and_then(|live| live.held_by) {
            Some(holder) => format!("waits for {}", holder.short()),
            None => "waits for another program".to_owned(),
        },
        State::Queued => {
            let place = place.map_or(String::new(), |place| format!(" #{place}"));
            let attempt = if run.attempt > 0 { format!(" attempt {}", run.attempt + 1) } else { String::new() };
            format!("queued{place}{attempt}")
        }
        State::Succeeded => match run.duration_ms {
            Some(ms) => format!("ok {}", round_duration(std::time::Duration::from_millis(ms.into()))),
            None => "ok".to_owned(),
        },
        State::Failed => match (run.signal, run.rc) {
            (Some(signal), _) => format!("failed signal {signal}"),
            (None, Some(rc)) => format!("failed exit {rc}"),
            (None, None) => "failed".to_owned(),
        },
        State::TimedOut => "timed out".to_owned(),
        State::OutOfMemory => "out of memory".to_owned(),
        State::Crashed => "crashed, result lost".to_owned(),
        State::Rejected => match run.problems {
            0 => "rejected".to_owned(),
            1 => "rejected 1 error".to_owned(),
            n => format!("rejected {n} errors"),
        },
        State::Cancelled => match run.reason.as_deref() {
            Some(reason) if reason.starts_with("by ") => {
                format!("cancelled {}", reason.split(':').next().unwrap_or_default())
            }
            _ => "cancelled".to_owned(),
        },
        State::Expired => "expired".to_owned(),
        State::Duplicate => "duplicate".to_owned(),
    }
}
