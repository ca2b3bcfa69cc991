//! An interval tree over key ranges: which watchers does a key wake?
//!
//! A binary search tree ordered by where a range starts, kept balanced as an AVL tree. Every node also
//! knows how far the ranges below it reach, so a search turns back from a subtree that ends too early:
//!
//! ```text
//!                 [f, m)  reach z
//!                /               \
//!       [b, z)  reach z      [k, p)  reach t       key "c": right of the root starts too late,
//!        /         \               \               [b, z) is a hit, [a, b) ends too early
//!  [a, b)  b    [c, d)  d       [p, t)  t
//! ```
//!
//! Watchers of one range share a node: it is common that thousands watch the same prefix.
//!
//! Invariants:
//! - the heights of two siblings differ by at most one;
//! - `reach` of a node is the latest end in its subtree;
//! - no node is without watchers, no range is empty;
//! - hits come in the order of the ranges, then of the slots: the same calls give the same order.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::watcher::Slot;
use crate::types::{KeyRange, RangeEnd};

/// Watchers by the range of keys that they watch.
#[derive(Default)]
pub(super) struct IntervalTree {
    root: Link,
}

type Link = Option<Box<Node>>;

struct Node {
    range: KeyRange,
    watchers: BTreeSet<Slot>,
    reach: Reach,
    height: u8,
    left: Link,
    right: Link,
}

/// The first key beyond a range. Ordered by how far it reaches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Before(Bytes),
    Open,
}

impl Reach {
    fn of(range: &KeyRange) -> Self {
        match &range.end {
            RangeEnd::Before(end) => Reach::Before(end.clone()),
            RangeEnd::Open => Reach::Open,
            // The successor of a key in byte order is the key and a zero byte.
            RangeEnd::Single => Reach::Before([&range.start[..], &[0]].concat().into()),
        }
    }

    fn is_beyond(&self, key: &[u8]) -> bool {
        match self {
            Reach::Before(end) => key < end.as_ref(),
            Reach::Open => true,
        }
    }
}

impl IntervalTree {
    /// Adds a watcher of `range`.
    pub(super) fn insert(&mut self, range: &KeyRange, watcher: Slot) {
        self.root = Some(insert(self.root.take(), range, watcher));
    }

    /// Takes out a watcher of `range`, if it is there.
    pub(super) fn remove(&mut self, range: &KeyRange, watcher: Slot) {
        self.root = remove(self.root.take(), range, watcher);
    }

    /// Appends every watcher whose range contains `key`.
    pub(super) fn matching(&self, key: &[u8], hits: &mut Vec<Slot>) {
        matching(&self.root, key, hits);
    }
}

fn matching(link: &Link, key: &[u8], hits: &mut Vec<Slot>) {
    let Some(node) = link.as_deref().filter(|node| node.reach.is_beyond(key)) else { return };
    matching(&node.left, key, hits);
    if key < node.range.start.as_ref() {
        return;
    }
    if node.range.contains(key) {
        hits.extend(&node.watchers);
    }
    matching(&node.right, key, hits);
}

fn insert(link: Link, range: &KeyRange, watcher: Slot) -> Box<Node> {
    let Some(mut node) = link else {
        return Box::new(Node {
            range: range.clone(),
            watchers: BTreeSet::from([watcher]),
            reach: Reach::of(range),
            height: 1,
            left: None,
            right: None,
        });
    };
    match range.cmp(&node.range) {
        Ordering::Less => node.left = Some(insert(node.left.take(), range, watcher)),
        Ordering::Greater => node.right = Some(insert(node.right.take(), range, watcher)),
        Ordering::Equal => {
            node.watchers.insert(watcher);
            return node;
        }
    }
    balanced(node)
}

fn remove(link: Link, range: &KeyRange, watcher: Slot) -> Link {
    let mut node = link?;
    match range.cmp(&node.range) {
        Ordering::Less => node.left = remove(node.left.take(), range, watcher),
        Ordering::Greater => node.right = remove(node.right.take(), range, watcher),
        Ordering::Equal => {
            node.watchers.remove(&watcher);
            if node.watchers.is_empty() {
                return joined(node.left, node.right);
            }
            return Some(node);
        }
    }
    Some(balanced(node))
}

/// One tree of two, where all of `left` comes before all of `right`.
fn joined(left: Link, right: Link) -> Link {
    let Some(right) = right else { return left };
    let (mut root, rest) = without_first(right);
    root.left = left;
    root.right = rest;
    Some(balanced(root))
}

/// The first node of a tree, and the tree without it.
fn without_first(mut node: Box<Node>) -> (Box<Node>, Link) {
    match node.left.take() {
        None => {
            let rest = node.right.take();
            (node, rest)
        }
        Some(left) => {
            let (first, rest) = without_first(left);
            node.left = rest;
            (first, Some(balanced(node)))
        }
    }
}

fn height(link: &Link) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

/// Restores a node's own height and reach after its children changed.
fn refresh(node: &mut Node) {
    node.height = 1 + height(&node.left).max(height(&node.right));
    let mut reach = Reach::of(&node.range);
    for child in [&node.left, &node.right].into_iter().flatten() {
        if child.reach > reach {
            reach = child.reach.clone();
        }
    }
    node.reach = reach;
}

/// The node with the balance of its subtree restored; its children are balanced and at most two apart.
fn balanced(mut node: Box<Node>) -> Box<Node> {
    refresh(&mut node);
    if height(&node.left) > height(&node.right) + 1 {
        node.left = node.left.map(|left| match height(&left.right) > height(&left.left) {
            true => rotated_left(left),
            false => left,
        });
        return rotated_right(node);
    }
    if height(&node.right) > height(&node.left) + 1 {
        node.right = node.right.map(|right| match height(&right.left) > height(&right.right) {
            true => rotated_right(right),
            false => right,
        });
        return rotated_left(node);
    }
    node
}

/// Makes the right child the root of the subtree.
fn rotated_left(mut node: Box<Node>) -> Box<Node> {
    let Some(mut root) = node.right.take() else { return node };
    node.right = root.left.take();
    refresh(&mut node);
    root.left = Some(node);
    refresh(&mut root);
    root
}

/// Makes the left child the root of the subtree.
fn rotated_right(mut node: Box<Node>) -> Box<Node> {
    let Some(mut root) = node.left.take() else { return node };
    node.left = root.right.take();
    refresh(&mut node);
    root.right = Some(node);
    refresh(&mut root);
    root
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checks every invariant of a subtree and returns its ranges in order.
    fn check_subtree(link: &Link, ranges: &mut Vec<KeyRange>) {
        let Some(node) = link else { return };
        check_subtree(&node.left, ranges);
        ranges.push(node.range.clone());
        check_subtree(&node.right, ranges);
        let (left, right) = (height(&node.left), height(&node.right));
        assert!(left.abs_diff(right) <= 1, "siblings of height {left} and {right}");
        assert_eq!(node.height, 1 + left.max(right));
        assert!(!node.watchers.is_empty(), "a node of nobody");
        let below = [&node.left, &node.right].into_iter().flatten().map(|child| child.reach.clone());
        assert_eq!(Some(&node.reach), below.chain([Reach::of(&node.range)]).max().as_ref());
    }

    /// Keys of one or two letters of three, so that ranges meet often.
    fn key() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(b'a'..b'd', 1..3).prop_map(Bytes::from)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        let bounded = (key(), key()).prop_map(|(start, end)| KeyRange::from_wire(start, end));
        prop_oneof![
            4 => bounded,
            1 => key().prop_map(|start| KeyRange { start, end: RangeEnd::Open }),
            1 => key().prop_map(KeyRange::single),
        ]
        .prop_filter("empty", |range| !range.is_empty())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn finds_what_a_scan_finds(
            steps in prop::collection::vec((any::<bool>(), range(), 0..3usize), 1..80),
            keys in prop::collection::vec(key(), 8),
        ) {
            let mut tree = IntervalTree::default();
            let mut scan: BTreeSet<(KeyRange, Slot)> = BTreeSet::new();
            for (add, range, watcher) in steps {
                if add {
                    tree.insert(&range, watcher);
                    scan.insert((range, watcher));
                } else {
                    tree.remove(&range, watcher);
                    scan.remove(&(range, watcher));
                }
                let mut ranges = Vec::new();
                check_subtree(&tree.root, &mut ranges);
                let expected: BTreeSet<_> = scan.iter().map(|(range, _)| range.clone()).collect();
                prop_assert_eq!(ranges, Vec::from_iter(expected));
            }
            for key in keys {
                let mut hits = Vec::new();
                tree.matching(&key, &mut hits);
                let expected = scan.iter().filter(|(range, _)| range.contains(&key));
                prop_assert_eq!(hits, Vec::from_iter(expected.map(|(_, watcher)| *watcher)));
            }
        }
    }
}
