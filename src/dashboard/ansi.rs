//! A line of a log as styled text: colours pass, everything else that is not text is shown escaped. Whoever may push can
//! write a log, so nothing of it is trusted.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use crate::journal::Cleaner;

/// Columns between two stops of a tab.
const TAB: usize = 8;

/// A line of a log, without its end: `\r` starts over as a terminal would, colours begin anew with each line so that none
/// can colour the rest. `mono` drops colours and keeps what else a sequence says.
#[must_use]
pub fn spans(line: &[u8], mono: bool) -> Vec<Span<'static>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let start = line.iter().rposition(|&byte| byte == b'\r').map_or(0, |at| at + 1);
    let (mut cleaner, mut clean) = (Cleaner::trusting(), Vec::with_capacity(line.len() + 16));
    cleaner.push(line.get(start..).unwrap_or_default(), &mut clean);
    cleaner.finish(&mut clean);
    let text = String::from_utf8_lossy(&clean);
    let mut out = Vec::new();
    let (mut style, mut column) = (Style::new(), 0);
    let mut rest = &*text;
    loop {
        let (plain, more) = rest.split_once('\u{1b}').map_or((rest, None), |(plain, more)| (plain, Some(more)));
        if !plain.is_empty() {
            out.push(Span::styled(with_stops(plain, &mut column), shown(style, mono)));
        }
        // The cleaner lets nothing but whole colour sequences through.
        let Some(more) = more else { return out };
        let (sequence, after) = more.split_once('m').unwrap_or((more, ""));
        style = colour(style, sequence.trim_start_matches('['));
        rest = after;
    }
}

fn with_stops(text: &str, column: &mut usize) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\t' {
            let wide = TAB - *column % TAB;
            out.extend(std::iter::repeat_n(' ', wide));
            *column += wide;
        } else if !c.is_control() {
            out.push(c);
            *column += 1;
        }
    }
    out
}

/// What is never lost: text in the colour of its background is made visible.
fn shown(style: Style, mono: bool) -> Style {
    let style = if mono { Style { fg: None, bg: None, ..style } } else { style };
    if style.bg.is_some() && style.fg == style.bg { Style { bg: None, ..style } } else { style }
}

/// The style after an SGR sequence's parameters.
fn colour(mut style: Style, parameters: &str) -> Style {
    let mut numbers = parameters.split([';', ':']).map(|number| number.parse::<u16>().unwrap_or(0));
    while let Some(number) = numbers.next() {
        style = match number {
            0 => Style::new(),
            1 => style.add_modifier(Modifier::BOLD),
            2 => style.add_modifier(Modifier::DIM),
            3 => style.add_modifier(Modifier::ITALIC),
            4 => style.add_modifier(Modifier::UNDERLINED),
            7 => style.add_modifier(Modifier::REVERSED),
            9 => style.add_modifier(Modifier::CROSSED_OUT),
            22 => style.remove_modifier(Modifier::BOLD | Modifier::DIM),
            23 => style.remove_modifier(Modifier::ITALIC),
            24 => style.remove_modifier(Modifier::UNDERLINED),
            27 => style.remove_modifier(Modifier::REVERSED),
            29 => style.remove_modifier(Modifier::CROSSED_OUT),
            30..=37 => style.fg(basic(number - 30)),
            90..=97 => style.fg(basic(number - 90 + 8)),
            40..=47 => style.bg(basic(number - 40)),
            100..=107 => style.bg(basic(number - 100 + 8)),
            38 | 48 => match (extended(&mut numbers), number) {
                (Some(color), 38) => style.fg(color),
                (Some(color), _) => style.bg(color),
                (None, _) => style,
            },
            39 => Style { fg: None, ..style },
            49 => Style { bg: None, ..style },
            _ => style,
        };
    }
    style
}

fn extended(numbers: &mut impl Iterator<Item = u16>) -> Option<Color> {
    let mut byte = || numbers.next().map(|number| u8::try_from(number).unwrap_or(u8::MAX));
    match byte()? {
        5 => Some(Color::Indexed(byte()?)),
        2 => Some(Color::Rgb(byte()?, byte()?, byte()?)),
        _ => None,
    }
}

/// White and black as text would vanish on a light or a dark ground: they become the terminal's own.
const fn basic(number: u16) -> Color {
    match number {
        1 => Color::Red,
        2 => Color::Green,
        3 => Color::Yellow,
        4 => Color::Blue,
        5 => Color::Magenta,
        6 => Color::Cyan,
        8 => Color::DarkGray,
        9 => Color::LightRed,
        10 => Color::LightGreen,
        11 => Color::LightYellow,
        12 => Color::LightBlue,
        13 => Color::LightMagenta,
        14 => Color::LightCyan,
        _ => Color::Reset,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &[u8], expect: &[(&str, Style)]) {
        let spans = spans(line, false);
        let got: Vec<(&str, Style)> = spans.iter().map(|span| (&*span.content, span.style)).collect();
        assert_eq!(got, expect, "{line:?}");
    }

    #[test]
    fn colours_pass_and_nothing_else() {
        let red = Style::new().fg(Color::Red);
        check(b"a \x1b[31mred\x1b[0m b", &[("a ", Style::new()), ("red", red), (" b", Style::new())]);
        check(b"\x1b[1;38;5;208mx", &[("x", Style::new().fg(Color::Indexed(208)).add_modifier(Modifier::BOLD))]);
        check(b"\x1b[38;2;1;2;3mx", &[("x", Style::new().fg(Color::Rgb(1, 2, 3)))]);
        check(b"\x1b[2J\x1b]52;c;eA==\x07x", &[("^[[2J^[]52;c;eA==^Gx", Style::new())]);
        check("\u{202e}x".as_bytes(), &[("<U+202E>x", Style::new())]);
        check(b"10%\r50%\r100%", &[("100%", Style::new())]);
        check(b"dos\r", &[("dos", Style::new())]);
        check(b"a\tb", &[("a       b", Style::new())]);
    }

    #[test]
    fn nothing_can_be_hidden() {
        check(b"\x1b[8mx", &[("x", Style::new())]);
        check(b"\x1b[31;41mx", &[("x", Style::new().fg(Color::Red))]);
        check(b"\x1b[30mx", &[("x", Style::new().fg(Color::Reset))]);
        let mono = spans(b"\x1b[1;31;40mx", true);
        assert_eq!(mono[0].style, Style::new().add_modifier(Modifier::BOLD));
    }

    proptest! {
        #[test]
        fn no_control_gets_through(line in prop::collection::vec(any::<u8>(), 0..200)) {
            for span in spans(&line, false) {
                prop_assert!(!span.content.chars().any(|c| c.is_control() || crate::text::is_deceptive(c)));
            }
        }
    }
}
