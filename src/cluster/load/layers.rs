//! Layers on top of each other, and which of them go when images go.

use std::collections::{HashMap, HashSet};

/// An unpacked layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    /// Chain ID of the layer below; none for the lowest.
    pub below: Option<String>,
    /// Bytes of this layer alone.
    pub size: u64,
}

/// Layers by chain ID.
pub type Layers = HashMap<String, Layer>;

/// The layers that only what goes has. Both name topmost layers by chain ID.
pub fn only<'a>(
    layers: &Layers,
    going: impl IntoIterator<Item = &'a str>,
    staying: impl IntoIterator<Item = &'a str>,
) -> HashSet<String> {
    let mut kept = HashSet::new();
    for top in staying {
        take(layers, top, &mut kept, &HashSet::new());
    }
    let mut free = HashSet::new();
    for top in going {
        take(layers, top, &mut free, &kept);
    }
    free
}

/// Bytes of some of the layers.
pub fn bytes<'a>(layers: &Layers, some: impl IntoIterator<Item = &'a String>) -> u64 {
    let size = |chain| layers.get(chain).map_or(0, |layer: &Layer| layer.size);
    some.into_iter().map(size).sum()
}

fn take(layers: &Layers, top: &str, taken: &mut HashSet<String>, kept: &HashSet<String>) {
    let mut next = Some(top.to_owned());
    while let Some(chain) = next.filter(|chain| !kept.contains(chain)) {
        let Some(layer) = layers.get(&chain) else {
            return;
        };
        next = layer.below.clone();
        if !taken.insert(chain) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `base` below `a` and `b`; `c` on `b`.
    fn layers() -> Layers {
        let layer = |(chain, below, size): (&str, &str, u64)| {
            let below = (!below.is_empty()).then(|| below.to_owned());
            (chain.to_owned(), Layer { below, size })
        };
        [
            ("base", "", 1000),
            ("a", "base", 1),
            ("b", "base", 10),
            ("c", "b", 100),
        ]
        .map(layer)
        .into()
    }

    #[test]
    fn shared_layers_stay() {
        let free = |going: &[&str], staying: &[&str]| {
            let layers = layers();
            let free = only(&layers, going.iter().copied(), staying.iter().copied());
            bytes(&layers, &free)
        };
        assert_eq!(free(&["a"], &["b"]), 1);
        assert_eq!(free(&["a", "b"], &["c"]), 1, "what another stands on stays");
        assert_eq!(
            free(&["c"], &["a"]),
            110,
            "a layer of no image goes with the one above it"
        );
        assert_eq!(free(&["a", "c"], &[]), 1111, "each counts once");
        assert_eq!(free(&["a"], &["a"]), 0, "another name of the same image");
        assert_eq!(free(&["gone"], &[]), 0);
    }
}
