//! The human log of the daemon: one line per event worth showing, to `logs/dispatcher.log` and, where asked, to the
//! terminal. The only place outside the dashboard and the command line that writes to a terminal. Refuses to wait for
//! one: a stopped or slow terminal loses lines, not the daemon its time.

mod lines;
mod texts;

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ansi_term::{Color, Style};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use crate::event::Entry;
use crate::journal::{Losses, Rotate, Rotating};
use crate::text;
use crate::time::Time;

pub use lines::line;
pub use texts::{Header, header, verdict};

/// Lines that wait for the terminal: some screens full. More would only be old news.
const WAITING_LINES: usize = 1_024;

/// Where the glyph stands in a line: behind the clock and two spaces.
const GLYPH_AT: usize = "00:00:00.000  ".len();

/// How long the end of the daemon waits for a terminal that takes nothing.
const FAREWELL: Duration = Duration::from_millis(500);

/// Where people watch besides `logs/dispatcher.log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Nowhere: the dashboard has the terminal.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Whether colours are used, decided by the caller (`--color`, `NO_COLOR`, is it a terminal). Never the only sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours {
    /// In `logs/dispatcher.log`.
    pub log: bool,
    /// On the terminal.
    pub terminal: bool,
    /// Nothing beyond ASCII in the dispatcher's own words on the terminal; goes with no colours there.
    pub plain: bool,
}

/// The writer of the human log. Shared by reference between threads.
#[derive(Debug)]
pub struct Console {
    colours: Colours,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Rotating,
    losses: Losses,
    screen: Option<Screen>,
    day: String,
}

impl Console {
    /// Opens `dispatcher.log` in `logs`.
    ///
    /// # Errors
    /// What the file system says, or where the terminal's thread cannot be started.
    pub fn open(logs: &Path, rotate: Rotate, terminal: Terminal, colours: Colours) -> io::Result<Self> {
        match terminal {
            Terminal::Off => Self::with_screen(logs, rotate, None, colours),
            Terminal::Stdout => Self::with_screen(logs, rotate, Some(Box::new(io::stdout())), colours),
            Terminal::Stderr => Self::with_screen(logs, rotate, Some(Box::new(io::stderr())), colours),
        }
    }

    fn with_screen(
        logs: &Path,
        rotate: Rotate,
        terminal: Option<Box<dyn Write + Send>>,
        colours: Colours,
    ) -> io::Result<Self> {
        let log = Rotating::open(logs.join("dispatcher.log"), rotate)?;
        let screen = terminal.map(Screen::start).transpose()?;
        let inner = Inner { log, losses: Losses::default(), screen, day: String::new() };
        Ok(Self { colours, inner: Mutex::new(inner) })
    }

    /// Shows an event, if it is worth a line.
    pub fn show(&self, entry: &Entry) {
        self.write(entry.ts, |colour| line(entry, colour));
    }

    /// Shows what is no event: a warning at start, what a sandbox lacks. One line; everything in it is escaped.
    pub fn note(&self, ts: Time, note: &str) {
        self.write(ts, |colour| {
            let mark = paint(colour, Color::Yellow.normal(), "! note      ");
            Some(format!("{}  {mark} {}", ts.clock(), text::line(note)))
        });
    }

    /// Lines that `dispatcher.log` did not take so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).losses.clone()
    }

    fn write(&self, ts: Time, line: impl Fn(bool) -> Option<String>) {
        let Colours { log, terminal, plain } = self.colours;
        let Some(logged) = line(log) else { return };
        let shown = |line: String| if plain { in_ascii(&line) } else { line };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let day = ts.day().replace('/', "-");
        if inner.day != day {
            inner.put(&day_line(&day, log), || shown(day_line(&day, terminal)));
            inner.day = day;
        }
        inner.put(&logged, || shown(line(terminal && !plain).unwrap_or_default()));
    }
}

impl Inner {
    fn put(&mut self, logged: &str, shown: impl Fn() -> String) {
        let outcome = self.log.append(format!("{logged}\n").as_bytes());
        self.losses.count(outcome);
        if let Some(screen) = &mut self.screen {
            screen.show(shown());
        }
    }
}

/// The glyph behind the clock, or the rule around a date, as a character that every terminal has.
fn in_ascii(line: &str) -> String {
    let is_rule = line.starts_with('\u{2500}');
    let replace = |(at, c): (usize, char)| match c {
        '\u{2500}' if is_rule => '-',
        c if at != GLYPH_AT || c.is_ascii() => c,
        '✓' => '+',
        '✗' => 'x',
        '⊘' => '!',
        '▸' => '>',
        '↻' => '~',
        '↓' => 'v',
        '↑' => '^',
        '·' => '.',
        _ => '*',
    };
    line.chars().enumerate().map(replace).collect()
}

fn day_line(day: &str, colour: bool) -> String {
    paint(colour, Style::new().dimmed(), &format!("\u{2500}\u{2500} {day} UTC \u{2500}\u{2500}"))
}

fn paint(colour: bool, style: Style, text: &str) -> String {
    if colour { style.paint(text).to_string() } else { text.to_owned() }
}

/// A terminal behind a thread of its own.
#[derive(Debug)]
struct Screen {
    lines: Option<Sender<String>>,
    done: Receiver<()>,
    left_out: u64,
}

impl Screen {
    fn start(mut terminal: Box<dyn Write + Send>) -> io::Result<Self> {
        let (lines, waiting) = bounded::<String>(WAITING_LINES);
        let (alive, done) = bounded(0);
        thread::Builder::new().name("console".into()).spawn(move || {
            let _alive = alive;
            for line in waiting {
                // Nobody may be there any more (EPIPE): the log file has the line.
                let _ = terminal.write_all((line + "\n").as_bytes()).and_then(|()| terminal.flush());
            }
        })?;
        Ok(Self { lines: Some(lines), done, left_out: 0 })
    }

    fn show(&mut self, line: String) {
        let Some(lines) = &self.lines else { return };
        let line = match self.left_out {
            0 => line,
            n => format!("   \u{2026} {n} lines left out here, see logs/dispatcher.log\n{line}"),
        };
        match lines.try_send(line) {
            Ok(()) => self.left_out = 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.left_out += 1,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.lines = None;
        let _: Result<(), RecvTimeoutError> = self.done.recv_timeout(FAREWELL);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::event::Event;

    const ROTATE: Rotate = Rotate { size: 1 << 20, keep: 2 };

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn resumed(ms: i64) -> Entry {
        Entry { v: 1, seq: 1, ts: Time::from_millis(ms), event: Event::Resumed { by: "a\u{1b}[2Jna".into() } }
    }

    #[test]
    fn log_and_terminal_have_colours_of_their_own() {
        let logs = tempfile::tempdir().unwrap();
        let screen = Shared::default();
        let colours = Colours { log: true, terminal: false, plain: false };
        let console = Console::with_screen(logs.path(), ROTATE, Some(Box::new(screen.clone())), colours).unwrap();
        console.show(&resumed(0));
        console.note(Time::from_millis(1_500), "no cgroup\nv2");
        console.show(&resumed(86_400_000));
        assert_eq!(console.losses(), Losses::default());
        drop(console);
        let plain = "── 1970-01-01 UTC ──\n\
                     00:00:00.000  ● resumed    by a^[[2Jna\n\
                     00:00:01.500  ! note       no cgroup^Jv2\n\
                     ── 1970-01-02 UTC ──\n\
                     00:00:00.000  ● resumed    by a^[[2Jna\n";
        assert_eq!(String::from_utf8(screen.0.lock().unwrap().clone()).unwrap(), plain);
        let logged = fs::read_to_string(logs.path().join("dispatcher.log")).unwrap();
        assert!(logged.contains("\x1b[33m! note      \x1b[0m no cgroup^Jv2"), "{logged:?}");
        assert_eq!(logged.lines().count(), 5);
    }

    #[test]
    fn plain_lines_have_no_glyphs_beyond_ascii() {
        for (line, plain) in [
            ("── 1970-01-01 UTC ──", "-- 1970-01-01 UTC --"),
            ("00:00:00.000  ✗ failed     é ✗ web-01", "00:00:00.000  x failed     é ✗ web-01"),
            ("00:00:00.000  - cancelled  a", "00:00:00.000  - cancelled  a"),
            ("", ""),
        ] {
            assert_eq!(in_ascii(line), plain);
        }
    }

    #[test]
    fn a_terminal_that_takes_nothing_stops_nobody() {
        let logs = tempfile::tempdir().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let colours = Colours { log: false, terminal: false, plain: false };
        let console = Console::with_screen(logs.path(), ROTATE, Some(Box::new(writer)), colours).unwrap();
        for ms in 0..5_000 {
            console.show(&resumed(ms));
        }
        assert!(console.inner.lock().unwrap().screen.as_ref().unwrap().left_out > 0);
        let logged = fs::read_to_string(logs.path().join("dispatcher.log")).unwrap();
        assert_eq!(logged.lines().count(), 5_001);
        drop(reader);
        console.show(&resumed(0));
    }
}
