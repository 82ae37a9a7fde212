//! Exact figures for tests that compute what the services must say: integers of nine decimals, no floats.

/// Decimals that an order's price and quantity may have.
pub const DECIMALS: u32 = 9;
/// The integer that stands for 1.
pub const ONE: i128 = 1_000_000_000;

/// Decimal text as an integer of nine decimals; `None` when it has more, or is no decimal.
#[must_use]
pub fn parse(decimal: &str) -> Option<i128> {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    if fraction.len() > DECIMALS as usize {
        return None;
    }
    let fraction = format!("{fraction:0<9}");
    Some(whole.parse::<i128>().ok()? * ONE + fraction.parse::<i128>().ok()?)
}

/// The shortest text of an integer of nine decimals.
#[must_use]
pub fn text(value: i128) -> String {
    text_of(value, DECIMALS)
}

/// The shortest text of an integer of so many decimals.
#[must_use]
pub fn text_of(value: i128, decimals: u32) -> String {
    let scale = 10_i128.pow(decimals);
    let fraction = format!("{:0width$}", value.rem_euclid(scale), width = decimals as usize);
    let fraction = fraction.trim_end_matches('0');
    let whole = value.div_euclid(scale);
    if fraction.is_empty() {
        whole.to_string()
    } else {
        format!("{whole}.{fraction}")
    }
}

/// The same decimal without zeros that say nothing: two texts of one value become equal.
#[must_use]
pub fn shortest(decimal: &str) -> &str {
    if decimal.contains('.') {
        decimal.trim_end_matches('0').trim_end_matches('.')
    } else {
        decimal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_text_is_exact() {
        for decimal in ["0.000000001", "1", "19.71107", "1000000000.5"] {
            assert_eq!(parse(decimal).map(text).as_deref(), Some(decimal));
        }
        assert_eq!(parse("0.1234567891"), None);
        assert_eq!(text_of(19_711_070_000 * 4_500_000_000, 18), "88.699815");
    }

    #[test]
    fn texts_of_one_value_are_one_text() {
        for (long, short) in [
            ("12.5000", "12.5"),
            ("100", "100"),
            ("100.00", "100"),
            ("0.10", "0.1"),
        ] {
            assert_eq!(shortest(long), short);
        }
    }
}
