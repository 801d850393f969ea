//! What the model looks like: `render(&Model, &View, frame)`, one file per pane. Reads nothing and changes nothing.

mod canvas;
mod detail;
mod events;
mod header;
mod help;
mod hints;
mod list;
mod log;
mod shape;
mod side;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

pub use shape::Shape;

use super::app::{Focus, Screen, View};
use super::model::Model;
use canvas::Canvas;

/// Draws everything.
pub fn render(model: &Model, view: &View, buffer: &mut Buffer) {
    let area = buffer.area;
    let mut canvas = Canvas::new(buffer, view.theme);
    let shape = Shape::of(view);
    if shape.tiny {
        header::one_line(&mut canvas, area, model);
        return;
    }
    if view.help {
        help::draw(&mut canvas, area, view);
        return;
    }
    match view.screen {
        Screen::Main => main(&mut canvas, model, view, &shape),
        Screen::Detail => detail::draw(&mut canvas, model, view, &shape),
    }
    hints::draw(&mut canvas, shape.hints, view);
}

fn main(canvas: &mut Canvas<'_>, model: &Model, view: &View, shape: &Shape) {
    header::draw(canvas, shape.header, model, view);
    if let Some(area) = shape.list {
        list::draw(canvas, area, model, view);
    }
    if let Some(area) = shape.side {
        side::draw(canvas, area, model, view);
    }
    if let Some(area) = shape.log {
        log::draw(canvas, area, model, view);
    }
    if let Some(area) = shape.events {
        events::draw(canvas, area, view);
    }
    if let Some(area) = shape.divider {
        down(canvas, area);
    }
}

/// A line down between two panes.
fn down(canvas: &mut Canvas<'_>, area: Rect) {
    for y in area.top()..area.bottom() {
        canvas.side(area.x, y);
    }
}

/// Whether a pane has the keys.
fn focused(view: &View, focus: Focus) -> bool {
    view.screen == Screen::Main && view.focus == focus
}
