//! W3C Trace Context.

/// The text, if it is a `traceparent` of version 00: `00-<32 hex>-<16 hex>-<2 hex>`, ids not all zero.
#[must_use]
pub fn traceparent(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let mut part = |length: usize| {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        parts.next().filter(|part| part.len() == length && part.bytes().all(hex))
    };
    let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    let (version, trace, span, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    (version == "00" && !is_zero(trace) && !is_zero(span) && parts.next().is_none()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_and_what_is_none() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(good), Some(good));
        let no_span = good.replace("b7ad6b7169203331", "0000000000000000");
        for bad in ["", "x", &good[..54], &good.to_uppercase(), &no_span, &format!("{good}-x"), &good.replace("00-0", "01-0")] {
            assert_eq!(traceparent(bad), None, "{bad}");
        }
    }
}
