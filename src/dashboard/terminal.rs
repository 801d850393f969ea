//! The terminal: takes it, gives it back whatever happens, and the one loop between keys, news and frames.

use std::io::{self, BufWriter, Stdout, Write as _};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select_biased};
use crossterm::event::{
    self, DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange, Event, KeyEventKind,
};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::app::{View, Wish};
use super::feed::{Feed, Feeds, Source};
use super::keys::{self, Key};
use super::model::{Link, Model};
use super::theme::Theme;
use super::view::render;

/// Between two frames: more a second nobody sees.
const FRAME: Duration = Duration::from_millis(50);
/// Between two ticks of the clock, and where nobody looks.
const TICK: Duration = Duration::from_secs(1);
const TICK_UNSEEN: Duration = Duration::from_secs(5);
/// Between two counts of the last day.
const COUNT: Duration = Duration::from_secs(5);
/// Keys that wait: more than anybody types while a frame is drawn.
const KEYS: usize = 256;
/// How often the reader of keys looks whether it is still wanted.
const READER: Duration = Duration::from_millis(500);
/// Pieces of news that are folded in before keys are looked at again.
const GULP: usize = 4_096;

/// How the dashboard is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it looks.
    pub source: Source,
    /// Colours may be used.
    pub colour: bool,
    /// Nothing beyond ASCII in its own signs.
    pub ascii: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A person left it.
    Left,
}

/// Opens the dashboard on the terminal of standard input and output, until a person leaves it.
///
/// # Errors
/// Where the terminal cannot be used.
pub fn open(options: &Options) -> io::Result<Ended> {
    let feeds = options.source.start()?;
    let mut screen = Screen::take()?;
    let theme = Theme { colour: options.colour, ascii: options.ascii };
    let clock = options.source.clock;
    let view = View::new(theme, options.source.root.clone(), clock());
    let mut model = Model::default();
    if options.source.socket.is_none() {
        model.link = Link::Offline;
    }
    let (keys, _reader) = Reader::start()?;
    let mut state = Loop { model, view, feeds, counted: None, dirty: true, seen: true, quit: false, redraw: false };
    state.work(&mut screen, &keys, clock)?;
    Ok(Ended::Left)
}

/// Everything between two frames.
struct Loop {
    model: Model,
    view: View,
    feeds: Feeds,
    counted: Option<Instant>,
    dirty: bool,
    /// The terminal has the focus, or does not say.
    seen: bool,
    quit: bool,
    redraw: bool,
}

impl Loop {
    fn work(
        &mut self,
        screen: &mut Screen,
        keys: &Receiver<Event>,
        clock: fn() -> crate::time::Time,
    ) -> io::Result<()> {
        let mut last: Option<Instant> = None;
        let mut news = self.feeds.news.clone();
        while !self.quit {
            let since = last.map_or(FRAME, |last| last.elapsed());
            if self.dirty && since >= FRAME {
                self.dirty = false;
                self.view.now = clock();
                self.frame(screen)?;
                last = Some(Instant::now());
            }
            let since = last.map_or(Duration::ZERO, |last| last.elapsed());
            let tick = if self.seen { TICK } else { TICK_UNSEEN };
            let wait = if self.dirty { FRAME } else { tick }.saturating_sub(since);
            select_biased! {
                recv(keys) -> event => match event {
                    Ok(event) => self.input(event, screen)?,
                    // Nobody can type any more: the terminal is gone.
                    Err(_) => self.quit = true,
                },
                recv(news) -> piece => match piece {
                    Ok(piece) => self.fold(piece, clock),
                    Err(_) => news = never(),
                },
                default(wait) => self.dirty = true,
            }
        }
        Ok(())
    }

    fn fold(&mut self, first: Feed, clock: fn() -> crate::time::Time) {
        let now = clock();
        let more: Vec<Feed> = self.feeds.news.try_iter().take(GULP).collect();
        for piece in std::iter::once(first).chain(more) {
            self.feeds.fold(piece, &mut self.model, now);
        }
        self.dirty = true;
    }

    fn input(&mut self, event: Event, screen: &mut Screen) -> io::Result<()> {
        self.dirty = true;
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                let Some(action) = Key::of(key).and_then(keys::action) else { return Ok(()) };
                match self.view.act(action, &self.model) {
                    Wish::Go => {}
                    Wish::Quit => self.quit = true,
                    Wish::Redraw => self.redraw = true,
                }
            }
            Event::Resize(..) => screen.resize()?,
            Event::FocusGained => self.seen = true,
            Event::FocusLost => self.seen = false,
            _ => {}
        }
        Ok(())
    }

    fn frame(&mut self, screen: &mut Screen) -> io::Result<()> {
        self.model.settle();
        if self.counted.is_none_or(|counted| counted.elapsed() >= COUNT) {
            self.model.count_day(self.view.now);
            self.counted = self.model.loaded.then(Instant::now);
        }
        self.view.size = screen.size;
        self.dirty |= self.view.prepare(&self.model);
        screen.draw(&self.model, &self.view, std::mem::take(&mut self.redraw))
    }
}

/// The terminal while the dashboard has it. Given back when dropped, and before a panic of this thread is told.
struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    size: (u16, u16),
}

impl Screen {
    fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let mut out = io::stdout();
        let entered = execute!(out, EnterAlternateScreen, EnableBracketedPaste, EnableFocusChange, cursor::Hide);
        if let Err(error) = entered {
            give_back();
            return Err(error);
        }
        hook();
        let size = crossterm::terminal::size()?;
        Ok(Self { terminal: terminal(size)?, size })
    }

    /// The size has changed: everything is drawn anew. Ratatui's own way would ask the terminal where its cursor is,
    /// and so compete with the reader of keys.
    fn resize(&mut self) -> io::Result<()> {
        let size = crossterm::terminal::size()?;
        if size != self.size {
            self.size = size;
            self.terminal = terminal(size)?;
            queue!(self.terminal.backend_mut(), Clear(ClearType::All))?;
        }
        Ok(())
    }

    fn draw(&mut self, model: &Model, view: &View, anew: bool) -> io::Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        if anew {
            queue!(self.terminal.backend_mut(), Clear(ClearType::All))?;
            self.terminal.swap_buffers();
        }
        self.terminal.draw(|frame| render(model, view, frame.buffer_mut()))?;
        queue!(self.terminal.backend_mut(), EndSynchronizedUpdate)?;
        self.terminal.backend_mut().flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn terminal((width, height): (u16, u16)) -> io::Result<Terminal<CrosstermBackend<BufWriter<Stdout>>>> {
    let backend = CrosstermBackend::new(BufWriter::with_capacity(64 << 10, io::stdout()));
    let viewport = Viewport::Fixed(Rect::new(0, 0, width, height));
    Terminal::with_options(backend, TerminalOptions { viewport })
}

/// The terminal as it was. Where that fails, nobody is left to tell.
fn give_back() {
    let _ = execute!(
        io::stdout(),
        EndSynchronizedUpdate,
        DisableFocusChange,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        cursor::Show
    );
    let _ = disable_raw_mode();
}

/// A panic of the thread that draws is told on a terminal that can show it; of another, the screen stays.
fn hook() {
    let (drawing, before) = (thread::current().id(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() == drawing {
            give_back();
            before(info);
        }
    }));
}

/// Reads the terminal's events on a thread of its own, until it is dropped.
struct Reader {
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn start() -> io::Result<(Receiver<Event>, Self)> {
        let (to, events) = bounded(KEYS);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("keys".into()).spawn(move || read(&to, &stopped))?;
        Ok((events, Self { stop }))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn read(to: &Sender<Event>, stopped: &AtomicBool) {
    while !stopped.load(Ordering::Acquire) {
        match event::poll(READER) {
            Ok(false) => {}
            Ok(true) => {
                let Ok(event) = event::read() else { return };
                if to.send(event).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
