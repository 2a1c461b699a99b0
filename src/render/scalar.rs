//! What an untagged YAML scalar means to Kubernetes: the rules of Go's `yaml.v2`, which kubectl reads with.

use serde_json::{Number, Value};

/// A scalar's value, or none for what JSON cannot hold (`.nan`, `.inf`).
pub fn resolve(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Some(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Some(Value::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => return None,
        _ => {}
    }
    Some(number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

fn number(text: &str) -> Option<Number> {
    let first = text.bytes().next()?;
    if first == b'.' {
        return looks_like_float(text).then(|| float(text)).flatten();
    }
    if !first.is_ascii_digit() && first != b'+' && first != b'-' {
        return None;
    }
    let plain = text.replace('_', "");
    integer(&plain).or_else(|| looks_like_float(&plain).then(|| float(&plain)).flatten())
}

/// Go's `ParseInt` and `ParseUint` with base 0: `0x`, `0o`, `0b`, and a leading zero for octal.
fn integer(plain: &str) -> Option<Number> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        let value = -i128::from(magnitude);
        return i64::try_from(value).ok().map(Number::from);
    }
    // Go reads what is too big for 64 signed bits as unsigned, but not with a plus sign.
    if plain.starts_with('+') && i64::try_from(magnitude).is_err() {
        return None;
    }
    Some(Number::from(magnitude))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn looks_like_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && all_digits(fraction),
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    let exponent_ok = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    mantissa_ok && exponent_ok
}

/// Whole numbers become integers, as Go's JSON writes them: the API server refuses `replicas: 1.0`.
fn float(text: &str) -> Option<Number> {
    let value: f64 = text.parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each line was asked of `kubectl create --dry-run=client -o json`.
    #[test]
    fn scalars_mean_what_kubectl_takes_them_for() {
        let table = [
            ("0644", json!(420)),
            ("0o644", json!(420)),
            ("0O17", json!(15)),
            ("08", json!(8)),
            ("0_8", json!(8)),
            ("1_000", json!(1000)),
            ("1__0", json!(10)),
            ("1_", json!(1)),
            ("_1", json!("_1")),
            ("0x1F", json!(31)),
            ("+0x10", json!(16)),
            ("-0644", json!(-420)),
            ("0b11", json!(3)),
            ("-0b11", json!(-3)),
            ("0b2", json!("0b2")),
            ("0x", json!("0x")),
            ("0o8", json!("0o8")),
            ("1:30", json!("1:30")),
            ("190:20:30", json!("190:20:30")),
            ("+1", json!(1)),
            ("1e3", json!(1000)),
            ("12e03", json!(12000)),
            ("1.50", json!(1.5)),
            (".5", json!(0.5)),
            ("+.5", json!(0.5)),
            ("5.", json!(5)),
            ("-0", json!(0)),
            ("1_000.5", json!(1000.5)),
            ("._5", json!("._5")),
            ("1e400", json!("1e400")),
            ("0xFFFFFFFFFFFFFFFF", json!(u64::MAX)),
            ("0xFFFFFFFFFFFFFFFFF", json!("0xFFFFFFFFFFFFFFFFF")),
            ("2001-01-01", json!("2001-01-01")),
            ("y", json!(true)),
            ("N", json!(false)),
            ("on", json!(true)),
            ("OFF", json!(false)),
            ("tRUE", json!("tRUE")),
            ("~", json!(null)),
            ("nULL", json!("nULL")),
            (".Nan", json!(".Nan")),
            ("=", json!("=")),
            (".", json!(".")),
            ("+", json!("+")),
        ];
        for (text, value) in table {
            assert_eq!(resolve(text), Some(value), "{text}");
        }
        assert_eq!(resolve(".inf"), None);
    }
}
