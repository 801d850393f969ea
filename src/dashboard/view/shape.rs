//! Which pane is where: from the size of the screen and what is looked at.

use ratatui::layout::Rect;

use crate::dashboard::app::{Focus, Leaf, Screen, View};

/// Rows of a run's facts above its log.
const FACTS: u16 = 10;

/// Where everything is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Too small for more than a line.
    pub tiny: bool,
    /// One column without panes beside each other.
    pub small: bool,
    /// Health and counts.
    pub header: Rect,
    /// Of the runs, with its title.
    pub list: Option<Rect>,
    /// Locks, kinds, health.
    pub side: Option<Rect>,
    /// The human log, with its title.
    pub log: Option<Rect>,
    /// The events, with their title.
    pub events: Option<Rect>,
    /// Between log and events, where they are side by side.
    pub divider: Option<Rect>,
    /// A run's facts.
    pub facts: Option<Rect>,
    /// The keys.
    pub hints: Rect,
}

impl Shape {
    /// Of what is looked at.
    #[must_use]
    pub fn of(view: &View) -> Self {
        let (width, height) = view.size;
        if width < 50 || height < 7 {
            return Self { tiny: true, ..Self::default() };
        }
        let small = width < 80 || height < 24;
        let ruled = height >= 24;
        let hints_at = height - if ruled { 2 } else { 1 };
        let hints = Rect::new(0, hints_at, width, height - hints_at);
        let base = Self { small, hints, ..Self::default() };
        match view.screen {
            Screen::Main => base.main(view, width),
            Screen::Detail => base.detail(view, width),
        }
    }

    fn main(self, view: &View, width: u16) -> Self {
        let header = Rect::new(0, 0, width, if self.small { 2 } else { 3 });
        let body = Rect::new(0, header.height, width, self.hints.y - header.height);
        let shape = Self { header, ..self };
        if view.zoom {
            return match view.focus {
                Focus::List => Self { list: Some(body), ..shape },
                Focus::Log => Self { log: Some(body), ..shape },
                Focus::Events => Self { events: Some(body), ..shape },
            };
        }
        if self.small {
            return match view.focus {
                Focus::List => Self { list: Some(body), ..shape },
                focus => shape.lower(body, focus),
            };
        }
        let wide = width >= 110 && view.size.1 >= 30;
        let big = width >= 160 && view.size.1 >= 45;
        let list_rows = if wide { body.height * 2 / 5 } else { body.height * 10 / 19 };
        let side_width = if big { 58 } else { 36 };
        let (upper, lower) = split_down(body, list_rows.max(5));
        let (list, side) = if wide { split_across(upper, width - side_width) } else { (upper, Rect::ZERO) };
        let shape = Self { list: Some(list), side: wide.then_some(side), ..shape };
        if width >= 160 {
            let log_width = width * 3 / 5;
            let (log, rest) = split_across(lower, log_width);
            let (divider, events) = split_across(rest, 1);
            return Self { log: Some(log), events: Some(events), divider: Some(divider), ..shape };
        }
        if wide {
            let (log, events) = split_down(lower, lower.height * 3 / 5);
            return Self { log: Some(log), events: Some(events), ..shape };
        }
        shape.lower(lower, view.lower)
    }

    fn lower(self, area: Rect, focus: Focus) -> Self {
        if focus == Focus::Events { Self { events: Some(area), ..self } } else { Self { log: Some(area), ..self } }
    }

    fn detail(self, view: &View, width: u16) -> Self {
        let header = Rect::new(0, 0, width, 1);
        let body = Rect::new(0, 1, width, self.hints.y - 1);
        let facts_rows = if view.zoom || self.small { 1 } else { FACTS };
        let (facts, lower) = split_down(body, facts_rows);
        let shape = Self { header, facts: Some(facts), ..self };
        if width >= 160 && matches!(view.leaf, Leaf::Log | Leaf::Events) && !view.zoom {
            let (log, rest) = split_across(lower, width * 3 / 5);
            let (divider, events) = split_across(rest, 1);
            return Self { log: Some(log), events: Some(events), divider: Some(divider), ..shape };
        }
        match view.leaf {
            Leaf::Events => Self { events: Some(lower), ..shape },
            _ => Self { log: Some(lower), ..shape },
        }
    }

    /// Rows of the list, without its title and heads.
    #[must_use]
    pub fn list_rows(&self) -> usize {
        let heads = if self.small { 0 } else { 2 };
        self.list.map_or(0, |area| usize::from(area.height.saturating_sub(heads)))
    }

    /// Rows of the log, without its title.
    #[must_use]
    pub fn log_rows(&self) -> usize {
        self.log.map_or(0, |area| usize::from(area.height.saturating_sub(1)))
    }

    /// Rows of the events, without their title.
    #[must_use]
    pub fn event_rows(&self) -> usize {
        self.events.map_or(0, |area| usize::from(area.height.saturating_sub(1)))
    }
}

fn split_down(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    (Rect { height: rows, ..area }, Rect { y: area.y + rows, height: area.height - rows, ..area })
}

fn split_across(area: Rect, columns: u16) -> (Rect, Rect) {
    let columns = columns.min(area.width);
    (Rect { width: columns, ..area }, Rect { x: area.x + columns, width: area.width - columns, ..area })
}
