//! Kubernetes quantities (`500m`, `1.5`, `64Mi`, `1e3`) as numbers, and back.

use serde_json::Value;

/// Suffixes and what they stand for.
const UNITS: [(&str, f64); 15] = [
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("", 1.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
];

/// A quantity as a number; none: it is no quantity, or less than nothing.
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    // `1e3` is a number, `1E` a unit.
    let plain = text.ends_with(|c: char| c.is_ascii_digit() || c == '.');
    let digits = if plain {
        text.len()
    } else {
        text.find(|c: char| c.is_ascii_alphabetic())?
    };
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(known, _)| *known == unit)?.1;
    let number = number.parse::<f64>().ok()? * factor;
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// The same for a value of a manifest, where a number may stand without quotes.
pub fn of(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => number(text),
        Value::Number(number) => number.as_f64().filter(|number| *number >= 0.0),
        _ => None,
    }
}

/// Rounded up, as Kubernetes does. A hair less, so that 0.1 thousand times is a hundred.
pub fn whole(number: f64) -> u64 {
    (number - 1e-6).ceil().max(0.0) as u64
}

/// Thousandths of a core as manifests have them: `350m`.
pub fn cpu(milli: u64) -> String {
    format!("{milli}m")
}

/// Bytes as manifests have them, exactly: `512Mi`, `1Gi`.
pub fn memory(bytes: u64) -> String {
    let units = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    let unit = units
        .iter()
        .find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    match unit {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

/// Bytes for people, one decimal: `3.2Gi`.
pub fn about(bytes: u64) -> String {
    let text = match bytes as f64 {
        bytes if bytes >= 1_073_741_824.0 => format!("{:.1}Gi", bytes / 1_073_741_824.0),
        bytes => format!("{:.0}Mi", bytes / 1_048_576.0),
    };
    text.replace(".0", "")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_read() {
        let table = [
            (json!("2"), Some(2.0)),
            (json!("100m"), Some(0.1)),
            (json!("1.5"), Some(1.5)),
            (json!(0.5), Some(0.5)),
            (json!(4), Some(4.0)),
            (json!("64Mi"), Some(67_108_864.0)),
            (json!("1k"), Some(1000.0)),
            (json!("1e3"), Some(1000.0)),
            (json!("1E"), Some(1e18)),
            (json!("-1"), None),
            (json!(""), None),
            (json!("many"), None),
            (json!("5µ"), None),
            (json!("1 Gi"), None),
            (json!(null), None),
        ];
        for (value, expected) in table {
            assert_eq!(of(&value), expected, "{value}");
        }
    }

    #[test]
    fn quantities_are_written() {
        assert_eq!(whole(0.1 * 1000.0), 100);
        assert_eq!(whole(0.0005 * 1000.0), 1);
        let written = [1 << 30, 512 << 20, 1536 << 20, 1025, 0].map(memory);
        assert_eq!(written, ["1Gi", "512Mi", "1536Mi", "1025", "0"]);
        let said = [3 << 30, 3_435_973_837, 200 << 20].map(about);
        assert_eq!(said, ["3Gi", "3.2Gi", "200Mi"]);
    }
}
