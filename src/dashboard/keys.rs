//! The key map: which key does what where, and in which words that is told. Help, key hints and input all read this one
//! table, so none of them can say what is not so.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A key as it is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// With ctrl.
    Ctrl(char),
    /// The key of that name.
    Enter,
    /// The key of that name.
    Esc,
    /// The key of that name.
    Tab,
    /// Shift and tab.
    BackTab,
    /// The key of that name.
    Backspace,
    /// The key of that name.
    Up,
    /// The key of that name.
    Down,
    /// The key of that name.
    Left,
    /// The key of that name.
    Right,
    /// The key of that name.
    PageUp,
    /// The key of that name.
    PageDown,
    /// The key of that name.
    Home,
    /// The key of that name.
    End,
}

impl Key {
    /// The key of a terminal's event, where it is one of those.
    #[must_use]
    pub fn of(event: KeyEvent) -> Option<Self> {
        Some(match event.code {
            KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::CONTROL) => Self::Ctrl(c.to_ascii_lowercase()),
            KeyCode::Char(c) => Self::Char(c),
            KeyCode::Enter => Self::Enter,
            KeyCode::Esc => Self::Esc,
            KeyCode::Tab => Self::Tab,
            KeyCode::BackTab => Self::BackTab,
            KeyCode::Backspace => Self::Backspace,
            KeyCode::Up => Self::Up,
            KeyCode::Down => Self::Down,
            KeyCode::Left => Self::Left,
            KeyCode::Right => Self::Right,
            KeyCode::PageUp => Self::PageUp,
            KeyCode::PageDown => Self::PageDown,
            KeyCode::Home => Self::Home,
            KeyCode::End => Self::End,
            _ => return None,
        })
    }
}

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Help,
    Back,
    Escape,
    Leave,
    Redraw,
    NextPane,
    PreviousPane,
    Tab(u8),
    Zoom,
    Up,
    Down,
    HalfUp,
    HalfDown,
    PageUp,
    PageDown,
    Top,
    End,
    Left,
    Right,
    Open,
    Follow,
    Wrap,
    Times,
    NextBad,
    PreviousBad,
    NextRun,
    PreviousRun,
}

/// Under which heading of the help a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Navigate,
    Log,
    Screen,
}

impl Group {
    /// In the order of the help.
    pub const ALL: [Self; 3] = [Self::Navigate, Self::Log, Self::Screen];

    /// Its heading.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Navigate => "NAVIGATE",
            Self::Log => "LOG AND EVENTS",
            Self::Screen => "SCREEN",
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Any of these.
    pub keys: &'static [Key],
    /// As the help writes them; empty where the line above does it for both.
    pub shown: &'static str,
    /// What it does.
    pub action: Action,
    /// In words.
    pub what: &'static str,
    /// Where in the help.
    pub group: Group,
    /// In the line of hints, where it is one of them.
    pub hint: Option<&'static str>,
}

macro_rules! bind {
    ($group:ident, $action:expr, $keys:expr, $shown:literal, $what:literal) => {
        bind!($group, $action, $keys, $shown, $what, None)
    };
    ($group:ident, $action:expr, $keys:expr, $shown:literal, $what:literal, $hint:literal) => {
        bind!($group, $action, $keys, $shown, $what, Some($hint))
    };
    ($group:ident, $action:expr, $keys:expr, $shown:literal, $what:literal, $hint:expr) => {
        Binding { keys: &$keys, shown: $shown, action: $action, what: $what, group: Group::$group, hint: $hint }
    };
}

/// Every key, in the order of the help; hints in the order in which they are dropped last.
pub const KEYS: &[Binding] = &[
    bind!(Navigate, Action::Down, [Key::Char('j'), Key::Down], "j k  Up Down", "move"),
    bind!(Navigate, Action::Up, [Key::Char('k'), Key::Up], "", ""),
    bind!(Navigate, Action::Top, [Key::Char('g'), Key::Home], "g G  Home End", "first, last"),
    bind!(Navigate, Action::End, [Key::Char('G'), Key::End], "", ""),
    bind!(Navigate, Action::HalfDown, [Key::Ctrl('d')], "^d ^u", "half a page"),
    bind!(Navigate, Action::HalfUp, [Key::Ctrl('u')], "", ""),
    bind!(Navigate, Action::PageDown, [Key::PageDown, Key::Char(' ')], "PgDn PgUp", "a page; down: Space"),
    bind!(Navigate, Action::PageUp, [Key::PageUp], "", ""),
    bind!(Navigate, Action::Open, [Key::Enter], "Enter", "open; event: its lines", "Enter open"),
    bind!(Navigate, Action::NextPane, [Key::Tab], "Tab S-Tab", "next, previous pane", "Tab pane"),
    bind!(Navigate, Action::PreviousPane, [Key::BackTab], "", ""),
    bind!(Navigate, Action::PreviousRun, [Key::Char('[')], "[ ]", "previous, next run"),
    bind!(Navigate, Action::NextRun, [Key::Char(']')], "", ""),
    bind!(Navigate, Action::NextBad, [Key::Char('e')], "e E", "next, last failed run", "e/E failed"),
    bind!(Navigate, Action::PreviousBad, [Key::Char('E')], "", ""),
    bind!(Navigate, Action::Escape, [Key::Esc], "Esc", "close, back; no quit"),
    bind!(Log, Action::Follow, [Key::Char('f')], "f", "follow the end or not", "f follow"),
    bind!(Log, Action::Wrap, [Key::Char('w')], "w", "wrap long lines", "w wrap"),
    bind!(Log, Action::Left, [Key::Char('h'), Key::Left], "h l  Left Right", "scroll sideways"),
    bind!(Log, Action::Right, [Key::Char('l'), Key::Right], "", ""),
    bind!(Log, Action::Times, [Key::Char('t')], "t", "UTC, since start, none"),
    bind!(Log, Action::Zoom, [Key::Char('z')], "z", "this pane alone", "z zoom"),
    bind!(Screen, Action::Tab(0), [Key::Char('0')], "0", "all runs"),
    bind!(Screen, Action::Tab(1), [Key::Char('1')], "1", "queued and waiting"),
    bind!(Screen, Action::Tab(2), [Key::Char('2')], "2", "running"),
    bind!(Screen, Action::Tab(3), [Key::Char('3')], "3", "done"),
    bind!(Screen, Action::Tab(4), [Key::Char('4')], "4", "failed"),
    bind!(Screen, Action::Tab(5), [Key::Char('5')], "5", "rejected and expired"),
    bind!(Screen, Action::Tab(6), [Key::Char('6')], "6", "locks"),
    bind!(Screen, Action::Help, [Key::Char('?')], "?", "this help"),
    bind!(Screen, Action::Redraw, [Key::Ctrl('l')], "^l", "draw all anew"),
    bind!(Screen, Action::Back, [Key::Char('q'), Key::Backspace], "q  Backspace", "back; here: quit"),
    bind!(Screen, Action::Leave, [Key::Ctrl('c')], "^c", "quit; runs go on"),
];

/// What a key does.
#[must_use]
pub fn action(key: Key) -> Option<Action> {
    KEYS.iter().find(|binding| binding.keys.contains(&key)).map(|binding| binding.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_means_one_thing() {
        let all: Vec<Key> = KEYS.iter().flat_map(|binding| binding.keys).copied().collect();
        for (at, key) in all.iter().enumerate() {
            assert!(!all[..at].contains(key), "{key:?} is there twice");
        }
        assert_eq!(action(Key::Char('q')), Some(Action::Back));
        assert_eq!(action(Key::Char('~')), None);
    }

    #[test]
    fn the_help_fits_half_of_80_columns() {
        for binding in KEYS {
            assert!(binding.shown.len() <= 15 && binding.what.len() <= 22, "{}", binding.what);
        }
    }
}
