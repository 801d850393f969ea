//! How the model is looked at: which list, which run, which pane, and what a key changes of that. Refuses to change the
//! model.

use std::path::PathBuf;

use crate::checkout;
use crate::dashboard::keys::Action;
use crate::dashboard::model::{Model, Run, Tab};
use crate::dashboard::panes::{EventsPane, LogPane};
use crate::dashboard::theme::Theme;
use crate::dashboard::view::Shape;
use crate::request::RunId;
use crate::status::{State, Status};
use crate::time::Time;

/// Bytes of a request that are shown.
const REQUEST_MOST: u64 = 256 << 10;

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Screen {
    /// The list and the panes beside it.
    #[default]
    Main,
    /// One run.
    Detail,
}

/// Where keys go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// The list of runs.
    #[default]
    List,
    /// The human log.
    Log,
    /// The events.
    Events,
}

/// What the lower part of a run's screen shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaf {
    /// The human log.
    #[default]
    Log,
    /// The events.
    Events,
    /// The request's file.
    Request,
    /// The status file.
    Status,
}

impl Leaf {
    /// In their order.
    pub const ALL: [Self; 4] = [Self::Log, Self::Events, Self::Request, Self::Status];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "Log",
            Self::Events => "Events",
            Self::Request => "Request",
            Self::Status => "Status.json",
        }
    }
}

/// How times stand before log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// Of the UTC day.
    #[default]
    Clock,
    /// Since the attempt began.
    Since,
    /// Not at all.
    None,
}

/// What the files of the shown run say.
#[derive(Debug, Default)]
pub struct Sheet {
    /// Its status, where it can be read.
    pub status: Option<Status>,
    /// The lines of its request.
    pub request: Vec<String>,
    /// The lines of its status file.
    pub json: Vec<String>,
}

/// How the model is looked at.
#[derive(Debug)]
pub struct View {
    /// How things look on this terminal.
    pub theme: Theme,
    /// The moment that is shown.
    pub now: Time,
    /// The repository.
    pub root: PathBuf,
    /// Its branch, where it is known.
    pub branch: Option<String>,
    /// Columns and rows.
    pub size: (u16, u16),
    /// What fills the screen.
    pub screen: Screen,
    /// Which list.
    pub tab: Tab,
    /// The run that is shown.
    pub selected: Option<RunId>,
    /// A person chose it; before that the dashboard shows what runs.
    pub chosen: bool,
    /// The first row of the list that is shown.
    pub list_top: usize,
    /// Where keys go.
    pub focus: Focus,
    /// The pane that is shown where there is room for one.
    pub lower: Focus,
    /// The focused pane alone.
    pub zoom: bool,
    /// The human log.
    pub log: LogPane,
    /// The events.
    pub events: EventsPane,
    /// How times stand before log lines.
    pub times: Times,
    /// The lower part of a run's screen.
    pub leaf: Leaf,
    /// The first line of a request or status that is shown.
    pub leaf_top: usize,
    /// The files of the shown run, and of which run.
    pub sheet: Sheet,
    sheet_of: Option<(RunId, State)>,
    /// The keys are explained.
    pub help: bool,
    /// First line of the help.
    pub help_top: usize,
    /// A word about the last key.
    pub word: Option<String>,
}

/// What a key asks of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To go on.
    Go,
    /// To end.
    Quit,
    /// To draw everything anew.
    Redraw,
}

impl View {
    /// The main screen, following what runs.
    #[must_use]
    pub fn new(theme: Theme, root: PathBuf, now: Time) -> Self {
        Self {
            theme,
            now,
            branch: branch(&root),
            root,
            size: (80, 24),
            screen: Screen::Main,
            tab: Tab::All,
            selected: None,
            chosen: false,
            list_top: 0,
            focus: Focus::List,
            lower: Focus::Log,
            zoom: false,
            log: LogPane::default(),
            events: EventsPane::default(),
            times: Times::Clock,
            leaf: Leaf::Log,
            leaf_top: 0,
            sheet: Sheet::default(),
            sheet_of: None,
            help: false,
            help_top: 0,
            word: None,
        }
    }

    /// Brings selection and panes up to date with the model and the files. True where the files have more to read.
    pub fn prepare(&mut self, model: &Model) -> bool {
        self.select_what_runs(model);
        let shape = Shape::of(self);
        self.keep_in_sight(model, shape.list_rows());
        self.log.show(self.selected);
        self.events.show(self.selected);
        let more = self.log.load(&self.root, shape.log_rows()) | self.events.load(&self.root);
        self.read_sheet(model);
        if self.focus != Focus::Events && self.leaf != Leaf::Events {
            self.events_with_log(shape.event_rows());
        }
        more
    }

    /// Before a person chooses, what runs is shown, or else the newest.
    fn select_what_runs(&mut self, model: &Model) {
        let now = self.selected.and_then(|id| model.runs.get(id));
        let stale = now.is_none_or(|run| run.state != State::Running);
        if !self.chosen && stale {
            let first = model.runs.rows(Tab::All).get(0);
            let better = first.filter(|first| now.is_none() || first.state == State::Running);
            self.selected = better.map(|run| run.id).or(self.selected);
        }
    }

    fn keep_in_sight(&mut self, model: &Model, rows: usize) {
        let list = model.runs.rows(self.tab);
        let last = list.len().saturating_sub(rows.max(1));
        if let Some(row) = self.selected.and_then(|id| list.row_of(id)) {
            if row < self.list_top {
                self.list_top = row;
            } else if row >= self.list_top + rows.max(1) {
                self.list_top = row + 1 - rows.max(1);
            }
        }
        self.list_top = self.list_top.min(last);
    }

    fn read_sheet(&mut self, model: &Model) {
        let wanted = self.selected.and_then(|id| Some((id, model.runs.get(id)?.state)));
        if wanted == self.sheet_of {
            return;
        }
        self.sheet_of = wanted;
        self.sheet = Sheet::default();
        let Some((id, _)) = wanted else { return };
        let lines =
            |bytes: &[u8]| -> Vec<String> { bytes.split(|&byte| byte == b'\n').map(crate::text::bytes).collect() };
        let read = |name: &str| {
            checkout::read(&self.root, &PathBuf::from(format!("processed/{id}/{name}")), REQUEST_MOST).ok()
        };
        if let Some(bytes) = read("status.json") {
            self.sheet.status = serde_json::from_slice(&bytes).ok().filter(|status: &Status| status.id == id);
            self.sheet.json = lines(&bytes);
        }
        self.sheet.request = read("request.yml").map(|bytes| lines(&bytes)).unwrap_or_default();
    }

    /// The events that happened up to what the log shows.
    fn events_with_log(&mut self, rows: usize) {
        let last =
            self.log.window.last().map(|line| self.log.offset_of(line.at + line.bytes.len() as u64 + line.more + 1));
        let offset = if self.log.top.is_some() { last } else { None };
        self.events.go_to_offset(offset, rows);
    }

    /// The run that is shown.
    #[must_use]
    pub fn run<'m>(&self, model: &'m Model) -> Option<&'m Run> {
        self.selected.and_then(|id| model.runs.get(id))
    }

    /// Does what a key means here.
    pub fn act(&mut self, action: Action, model: &Model) -> Wish {
        self.word = None;
        if self.help {
            return self.in_help(action);
        }
        match action {
            Action::Leave => return Wish::Quit,
            Action::Redraw => return Wish::Redraw,
            Action::Back if self.screen == Screen::Main && !self.zoom => return Wish::Quit,
            Action::Back | Action::Escape => self.back(),
            Action::Help => (self.help, self.help_top) = (true, 0),
            Action::NextPane => self.pane(true),
            Action::PreviousPane => self.pane(false),
            Action::Tab(number) => self.list(number),
            Action::Zoom => self.zoom(),
            Action::Open => self.open(model),
            Action::Follow => {
                let on = self.log.top.is_some();
                self.log.follow(on);
            }
            Action::Wrap => self.log.wrap = !self.log.wrap,
            Action::Times => {
                self.times = match self.times {
                    Times::Clock => Times::Since,
                    Times::Since => Times::None,
                    Times::None => Times::Clock,
                }
            }
            Action::Left => self.log.left = self.log.left.saturating_sub(8),
            Action::Right => self.log.left = (self.log.left + 8).min(4_096),
            Action::NextRun => self.choose_by(model, 1),
            Action::PreviousRun => self.choose_by(model, -1),
            Action::NextBad => self.choose_bad(model, true),
            Action::PreviousBad => self.choose_bad(model, false),
            Action::Up => self.move_by(model, -1, 0),
            Action::Down => self.move_by(model, 1, 0),
            Action::HalfUp => self.move_by(model, -1, 2),
            Action::HalfDown => self.move_by(model, 1, 2),
            Action::PageUp => self.move_by(model, -1, 1),
            Action::PageDown => self.move_by(model, 1, 1),
            Action::Top => self.move_by(model, -i64::from(u32::MAX), 0),
            Action::End => self.move_by(model, i64::from(u32::MAX), 0),
        }
        Wish::Go
    }

    fn in_help(&mut self, action: Action) -> Wish {
        match action {
            Action::Leave => return Wish::Quit,
            Action::Redraw => return Wish::Redraw,
            Action::Down => self.help_top += 1,
            Action::Up => self.help_top = self.help_top.saturating_sub(1),
            Action::PageDown | Action::HalfDown => self.help_top += 8,
            Action::PageUp | Action::HalfUp => self.help_top = self.help_top.saturating_sub(8),
            _ => self.help = false,
        }
        Wish::Go
    }

    fn back(&mut self) {
        if self.zoom {
            self.zoom = false;
        } else if self.screen == Screen::Detail {
            (self.screen, self.leaf, self.focus) = (Screen::Main, Leaf::Log, Focus::List);
        } else {
            self.focus = Focus::List;
        }
    }

    fn pane(&mut self, forward: bool) {
        if self.screen == Screen::Detail {
            let at = Leaf::ALL.iter().position(|leaf| *leaf == self.leaf).unwrap_or(0);
            let step = if forward { 1 } else { Leaf::ALL.len() - 1 };
            self.leaf = Leaf::ALL[(at + step) % Leaf::ALL.len()];
            self.leaf_top = 0;
            return;
        }
        self.focus = match (self.focus, forward) {
            (Focus::List, true) | (Focus::Events, false) => Focus::Log,
            (Focus::Log, true) | (Focus::List, false) => Focus::Events,
            (Focus::Events, true) | (Focus::Log, false) => Focus::List,
        };
        if self.focus != Focus::List {
            self.lower = self.focus;
        }
    }

    fn list(&mut self, number: u8) {
        if let Some(tab) = Tab::ALL.get(usize::from(number)) {
            (self.tab, self.list_top, self.focus, self.zoom) = (*tab, 0, Focus::List, false);
            self.screen = Screen::Main;
        }
    }

    fn zoom(&mut self) {
        if self.focus == Focus::List && self.screen == Screen::Main && !self.zoom {
            self.focus = self.lower;
        }
        self.zoom = !self.zoom;
    }

    fn open(&mut self, model: &Model) {
        let rows = Shape::of(self).log_rows();
        if self.focus == Focus::Events || (self.screen == Screen::Detail && self.leaf == Leaf::Events) {
            if let Some(offset) = self.events.current().map(|event| event.log_off) {
                self.log.go_to_offset(offset, rows);
                (self.focus, self.lower, self.leaf) = (Focus::Log, Focus::Log, Leaf::Log);
            }
        } else if self.screen == Screen::Main && self.run(model).is_some() {
            (self.screen, self.leaf, self.leaf_top, self.zoom) = (Screen::Detail, Leaf::Log, 0, false);
            self.chosen = true;
        }
    }

    /// Moves in the focused pane: by `by` rows, or by a page or a half of it.
    fn move_by(&mut self, model: &Model, by: i64, pages: usize) {
        let shape = Shape::of(self);
        let on_log = match self.screen {
            Screen::Main => self.focus,
            Screen::Detail if self.leaf == Leaf::Log => Focus::Log,
            Screen::Detail => Focus::Events,
        };
        let rows = match on_log {
            Focus::List => shape.list_rows(),
            Focus::Log => shape.log_rows(),
            Focus::Events => shape.event_rows(),
        };
        let step = |rows: usize| i64::try_from(rows.checked_div(pages).unwrap_or(1).max(1)).unwrap_or(1);
        let by = by.saturating_mul(step(rows));
        match (on_log, self.screen, self.leaf) {
            (Focus::List, ..) => self.choose_by(model, by),
            (Focus::Log, ..) => self.log.scroll(by, rows),
            (Focus::Events, Screen::Detail, Leaf::Request | Leaf::Status) => {
                let lines = if self.leaf == Leaf::Request { &self.sheet.request } else { &self.sheet.json };
                let last = i64::try_from(lines.len().saturating_sub(rows)).unwrap_or(0);
                let top = i64::try_from(self.leaf_top).unwrap_or(0).saturating_add(by).clamp(0, last);
                self.leaf_top = usize::try_from(top).unwrap_or(0);
            }
            (Focus::Events, ..) => {
                self.events.scroll(by, rows);
                if let (Some(_), Some(event)) = (self.events.cursor, self.events.current()) {
                    let offset = event.log_off;
                    self.log.go_to_offset(offset, shape.log_rows());
                } else {
                    self.log.follow(true);
                }
            }
        }
    }

    fn choose_by(&mut self, model: &Model, by: i64) {
        let rows = model.runs.rows(self.tab);
        let last = i64::try_from(rows.len()).unwrap_or(0) - 1;
        let row = match self.selected.and_then(|id| rows.row_of(id)) {
            Some(row) => i64::try_from(row).unwrap_or(0).saturating_add(by),
            // It has left the list: whatever the key, the list begins where it is shown.
            None => i64::try_from(self.list_top).unwrap_or(0),
        };
        if let Some(run) = usize::try_from(row.clamp(0, last.max(0))).ok().and_then(|row| rows.get(row)) {
            (self.selected, self.chosen) = (Some(run.id), true);
        }
    }

    fn choose_bad(&mut self, model: &Model, forward: bool) {
        let rows = model.runs.rows(self.tab);
        let bad = |run: &Run| matches!(Tab::of(run.state), Tab::Failed | Tab::Rejected);
        let here = self.selected.and_then(|id| rows.row_of(id));
        let found = if forward {
            rows.iter().skip(here.map_or(0, |row| row + 1)).find(|run| bad(run))
        } else {
            (0..here.unwrap_or(0)).rev().filter_map(|row| rows.get(row)).find(|run| bad(run))
        };
        match found {
            Some(run) => (self.selected, self.chosen) = (Some(run.id), true),
            None => self.word = Some("no other run of this list failed".to_owned()),
        }
    }
}

/// The branch that is checked out, as git's own file says it.
fn branch(root: &std::path::Path) -> Option<String> {
    let head = std::fs::read_to_string(root.join(".git/HEAD")).ok()?;
    head.trim().strip_prefix("ref: refs/heads/").map(crate::text::line)
}
