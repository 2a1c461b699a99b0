//! The path of a field in an object.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list, from 0.
    Item(usize),
}

/// Such as `spec.template.spec.containers[0].image`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Field(pub Vec<Step>);

impl Field {
    /// From keys with dots between.
    pub fn of(keys: &str) -> Self {
        Field::default().dot(keys)
    }

    /// Further by keys with dots between; none of them has a dot itself.
    pub fn dot(mut self, keys: &str) -> Self {
        let keys = keys.split('.').filter(|key| !key.is_empty());
        self.0.extend(keys.map(|key| Step::Key(key.to_owned())));
        self
    }

    /// Further by one key, whatever is in it.
    pub fn key(mut self, key: &str) -> Self {
        self.0.push(Step::Key(key.to_owned()));
        self
    }

    /// Further by an item.
    pub fn item(mut self, index: usize) -> Self {
        self.0.push(Step::Item(index));
        self
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(index) => write!(f, "[{index}]")?,
                Step::Key(key) if key.contains(['.', '[', '/', ' ']) => write!(f, "[{key:?}]")?,
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_the_api_server_writes_them() {
        let image = Field::of("spec.template.spec.containers")
            .item(1)
            .dot("image");
        assert_eq!(image.to_string(), "spec.template.spec.containers[1].image");
        let file = Field::of("data").key("config.yaml");
        assert_eq!(file.to_string(), r#"data["config.yaml"]"#);
    }
}
