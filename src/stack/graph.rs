//! Order among things that need each other.

use std::collections::BTreeSet;

/// Things that need each other in a circle: each needs the next, the last needs the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle(pub Vec<usize>);

/// An order of `0..n` in which everything comes after what it needs. An edge `(a, b)` says that `a` needs `b`.
/// What is free to choose keeps its order.
///
/// # Errors
/// The circle that is found first, when there is one.
pub fn order(n: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, Cycle> {
    let mut open = vec![BTreeSet::new(); n];
    let mut needed_by = vec![Vec::new(); n];
    for &(a, b) in edges {
        if open[a].insert(b) {
            needed_by[b].push(a);
        }
    }
    let mut free: BTreeSet<usize> = (0..n).filter(|&it| open[it].is_empty()).collect();
    let mut order = Vec::with_capacity(n);
    while let Some(it) = free.pop_first() {
        order.push(it);
        for &next in &needed_by[it] {
            open[next].remove(&it);
            if open[next].is_empty() {
                free.insert(next);
            }
        }
    }
    if order.len() == n {
        Ok(order)
    } else {
        Err(circle(&open))
    }
}

/// Everything that is left needs something that is left: whoever follows the needs comes round.
fn circle(open: &[BTreeSet<usize>]) -> Cycle {
    let mut path: Vec<usize> = Vec::new();
    let mut at = open.iter().position(|needs| !needs.is_empty());
    while let Some(it) = at {
        if let Some(start) = path.iter().position(|&seen| seen == it) {
            path.drain(..start);
            break;
        }
        path.push(it);
        at = open[it].first().copied();
    }
    Cycle(path)
}

/// Every circle there is, no two of which share a member.
pub fn cycles(n: usize, edges: &[(usize, usize)]) -> Vec<Cycle> {
    let mut edges = edges.to_vec();
    let mut found = Vec::new();
    while let Err(cycle) = order(n, &edges) {
        edges.retain(|(a, b)| !cycle.0.contains(a) && !cycle.0.contains(b));
        found.push(cycle);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orders() {
        assert_eq!(order(0, &[]), Ok(vec![]));
        assert_eq!(order(3, &[]), Ok(vec![0, 1, 2]));
        assert_eq!(order(3, &[(0, 2), (2, 1)]), Ok(vec![1, 2, 0]));
        assert_eq!(order(2, &[(0, 1), (0, 1)]), Ok(vec![1, 0]));
    }

    #[test]
    fn circles() {
        assert_eq!(order(1, &[(0, 0)]), Err(Cycle(vec![0])));
        // 0 only leads into the circle.
        assert_eq!(order(3, &[(0, 1), (1, 2), (2, 1)]), Err(Cycle(vec![1, 2])));
        let two = cycles(5, &[(0, 1), (1, 0), (2, 3), (3, 2), (4, 0)]);
        assert_eq!(two, [Cycle(vec![0, 1]), Cycle(vec![2, 3])]);
    }

    proptest! {
        #[test]
        fn an_order_or_a_true_circle(edges in prop::collection::vec((0..8usize, 0..8usize), 0..20)) {
            match order(8, &edges) {
                Ok(order) => {
                    let place = |it| order.iter().position(|&x| x == it).unwrap();
                    prop_assert_eq!(order.len(), 8);
                    for (a, b) in edges {
                        prop_assert!(place(b) < place(a));
                    }
                }
                Err(Cycle(path)) => {
                    prop_assert!(!path.is_empty());
                    for (i, &a) in path.iter().enumerate() {
                        let b = path[(i + 1) % path.len()];
                        prop_assert!(edges.contains(&(a, b)));
                    }
                }
            }
        }
    }
}
