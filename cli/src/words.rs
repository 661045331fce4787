//! Numbers and lists as people read them.

use std::time::Duration;

/// A number with commas between the thousands.
pub fn grouped(number: impl std::fmt::Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with a decimal unit, such as `46.8 MB`.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{} kB", three_digits(count as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", three_digits(count as f64 / 1e6)),
        _ => format!("{} GB", three_digits(count as f64 / 1e9)),
    }
}

/// A time with its unit, such as `71 ms` or `24.8 ms`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 1e-3 => format!("{} µs", three_digits(s * 1e6)),
        s if s < 1.0 => format!("{} ms", three_digits(s * 1e3)),
        s => format!("{} s", three_digits(s)),
    }
}

fn three_digits(number: f64) -> String {
    let decimals = if number < 9.995 {
        2
    } else if number < 99.95 {
        1
    } else {
        0
    };
    format!("{number:.decimals$}")
}

/// A float with this many significant digits, without trailing zeros; very large and small ones with an exponent.
pub fn significant(number: f64, digits: usize) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    if !number.is_finite() {
        return not_finite(number).to_owned();
    }
    let scientific = format!("{number:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..digits.max(6) as i32).contains(&exponent) {
        let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
        return trim(&format!("{number:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

/// `NaN`, `Infinity` or `-Infinity`.
pub fn not_finite(number: f64) -> &'static str {
    match number {
        number if number.is_nan() => "NaN",
        number if number > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

/// A float for JSON: NaN and the infinities, which JSON lacks, as strings.
pub fn json_number(number: f64) -> serde_json::Value {
    match serde_json::Number::from_f64(number) {
        Some(number) => number.into(),
        None => not_finite(number).into(),
    }
}

/// A whole number and its noun, such as `1 tensor` or `1,200 tensors`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// Breaks a text at spaces so that lines stay within `width` columns; the first starts at `column`, the others with
/// `indent`.
pub fn wrap(text: &str, width: usize, column: usize, indent: &str) -> String {
    let mut wrapped = String::new();
    let mut used = column;
    for (position, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if position > 0 {
            if used + 1 + length > width {
                wrapped.push('\n');
                wrapped.push_str(indent);
                used = indent.len();
            } else {
                wrapped.push(' ');
                used += 1;
            }
        }
        wrapped.push_str(word);
        used += length;
    }
    wrapped
}

/// Rows as lines, each column as wide as its widest cell, two spaces between them.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The first names of a list, with how many more there are.
pub fn some_of(names: &[String], shown: usize) -> String {
    let first = names.iter().take(shown).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(shown) {
        0 => first,
        more => format!("{first}, … ({more} more)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (12.44712, "12.45"),
            (0.0112999, "0.0113"),
            (3.14e-9, "3.14e-09"),
            (0.0, "0"),
            (-100.0, "-100"),
            (1.0, "1"),
            (123456.0, "123456"),
            (1.5e12, "1.5e+12"),
            (f64::NAN, "NaN"),
            (0.00012, "0.00012"),
        ] {
            assert_eq!(significant(number, 4), expected);
        }
        assert_eq!(
            (bytes(602_000), bytes(46_800_000), grouped(11689512)),
            ("602 kB".into(), "46.8 MB".into(), "11,689,512".into())
        );
    }

    #[test]
    fn long_lines_are_broken_at_spaces() {
        assert_eq!(wrap("aa bb cc dd", 5, 0, "  "), "aa bb\n  cc\n  dd");
        assert_eq!(wrap("longer", 3, 0, "  "), "longer");
    }
}
