//! Durations and sizes as people write them: `500ms`, `30s`, `15m`, `2h`, `1d`; `512K`, `64M`, `2G` (powers of 1024).

use std::time::Duration;

/// The text is no duration or size; says which forms are allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    /// Not a duration.
    #[error("`{0}` is not a duration: a whole number and `ms`, `s`, `m`, `h` or `d`, such as `30s`")]
    Duration(String),
    /// Not a size.
    #[error("`{0}` is not a size: a whole number and `K`, `M` or `G` (or bytes alone), such as `64M`")]
    Size(String),
}

/// Reads a duration such as `15m`. At most 10,000 days, so that no sum of two can overflow.
///
/// # Errors
/// `BadQuantity::Duration` with the text where it has another form.
pub fn parse_duration(text: &str) -> Result<Duration, BadQuantity> {
    let bad = || BadQuantity::Duration(text.to_owned());
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let number: u64 = text[..unit_at].parse().map_err(|_| bad())?;
    let millis: u64 = match &text[unit_at..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    match number.checked_mul(millis) {
        Some(total) if total <= 10_000 * 86_400_000 => Ok(Duration::from_millis(total)),
        _ => Err(bad()),
    }
}

/// Reads a size such as `64M`, in bytes.
///
/// # Errors
/// `BadQuantity::Size` with the text where it has another form.
pub fn parse_size(text: &str) -> Result<u64, BadQuantity> {
    let bad = || BadQuantity::Size(text.to_owned());
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..unit_at].parse().map_err(|_| bad())?;
    let shift = match &text[unit_at..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(bad()),
    };
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// A duration as people write it, in its largest whole unit: `90s`, `5m`, `500ms`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

/// A duration as people read it, rounded: `420ms`, `1.2s`, `4m12s`, `2h05m`, `3d04h`.
#[must_use]
pub fn round_duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0 => format!("{}ms", duration.as_millis()),
        1..=9 => format!("{:.1}s", duration.as_secs_f64()),
        10..=59 => format!("{secs}s"),
        60..=3_599 => format!("{}m{:02}s", secs / 60, secs % 60),
        3_600..=86_399 => format!("{}h{:02}m", secs / 3_600, secs % 3_600 / 60),
        _ => format!("{}d{:02}h", secs / 86_400, secs % 86_400 / 3_600),
    }
}

/// A size as people write it, in its largest whole unit: `64M`, `1536K`, `17`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (unit, shift) in [("G", 30), ("M", 20), ("K", 10)] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("15m", 900_000), ("2h", 7_200_000), ("1d", 86_400_000)]
        {
            let read = parse_duration(text).unwrap();
            assert_eq!(read, Duration::from_millis(millis));
            assert_eq!(show_duration(read), text);
        }
        for bad in ["", "s", "5", "5 s", "-1s", "1.5s", "1h30m", "99999999999999999999s", "10001d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(round_duration(Duration::from_millis(1_234)), "1.2s");
        assert_eq!(round_duration(Duration::from_secs(252)), "4m12s");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("17", 17), ("512K", 512 << 10), ("64M", 64 << 20), ("2G", 2 << 30)] {
            assert_eq!(parse_size(text).unwrap(), bytes);
            assert_eq!(show_size(bytes), text);
        }
        for bad in ["", "M", "1.5G", "64m", "64MB", "99999999999G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
