//! A CSV row as JSON.

use super::header::Header;

/// An object with the row's fields. What a field becomes: see [`Row::to_json`](super::Row::to_json).
pub(super) fn csv_as_json(header: &Header, record: &csv::StringRecord) -> String {
    let mut text = String::with_capacity(record.as_slice().len() + 16 * record.len());
    for (index, (name, field)) in header.names.iter().zip(record).enumerate() {
        text.push(if index == 0 { '{' } else { ',' });
        push_string(&mut text, name);
        text.push(':');
        match field {
            as_text if header.is_text(index) => push_string(&mut text, as_text),
            "" => text.push_str("null"),
            "true" | "false" => text.push_str(field),
            number if is_json_number(number) => text.push_str(number),
            other => push_string(&mut text, other),
        }
    }
    text.push('}');
    text
}

fn push_string(text: &mut String, value: &str) {
    // A string can always be written as JSON.
    text.push_str(&serde_json::to_string(value).unwrap_or_default());
}

/// Whether the text is a number as JSON writes it, and one that every reader of JSON can read: `-0.5e3` is, `+1`, `01`, `.5` and `1.`
/// are not, nor is `1e999`, which no double can hold.
fn is_json_number(text: &str) -> bool {
    has_form_of_number(text) && serde_json::from_str::<f64>(text).is_ok_and(f64::is_finite)
}

fn has_form_of_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_json_has_them() {
        assert!(["0", "-0.5e3", "12", "1E+9", "1.0"].into_iter().all(is_json_number));
        assert!(
            !["", "-", "+1", "01", ".5", "1.", "1e", "0x1", "NaN", "1 ", "12E4567", "-1e999"].into_iter().any(is_json_number)
        );
    }
}
