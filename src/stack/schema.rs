//! To be written.

/// The JSON Schema of `stack.yaml`.
pub fn schema() -> serde_json::Value {
    serde_json::Value::Bool(true)
}
