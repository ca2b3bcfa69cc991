//! A persistent ordered map that also counts: the index of the live keys.
//!
//! It is a B+tree whose nodes are shared by reference count. Cloning the tree clones the reference to
//! the root, so a clone is a snapshot that costs nothing and never changes. The writer changes a node
//! in place when nobody shares it, and copies it first when a snapshot does: a write copies at most the
//! path from the root to one leaf, once per snapshot taken.
//!
//! ```text
//!                 inner  [ a..f: 61 entries, 9 KB | f..p: 40, 7 KB | p..: 55, 8 KB ]
//!                          /                        |                 \
//!                 leaf [a1 a2 b c ...]        leaf [f g ...]       leaf [p q ...]
//! ```
//!
//! Beside each child stand the number of entries and the sum of their weights under it. So the count of
//! a range, the entry at a position and the weight of the first n entries take O(log n).
//!
//! Invariants:
//! - all leaves are equally deep; entries are in ascending order and unique;
//! - every node but the root holds [`MIN_FILL`] to [`MAX_FILL`] entries or children, an inner root at
//!   least two, so the depth is logarithmic after any mix of inserts and removes;
//! - the keys under child `i` are at least separator `i - 1` and below separator `i`;
//! - the count and weight of a subtree are those of its entries.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::slice;
use std::sync::Arc;

use super::key::Key;

#[cfg(test)]
mod tests;

/// Most entries of a leaf and most children of an inner node. A write under a fresh snapshot copies one
/// node a level: bigger nodes cost writes, smaller ones cost reads. From 16 to 32 writes cost the same
/// within noise; at 16 reads of many keys were slower, at 32 the allocator wasted more.
const MAX_FILL: usize = 24;
/// Fewest entries or children of a node that is not the root.
const MIN_FILL: usize = MAX_FILL / 4;
/// Two neighbours become one node up to this size. It leaves room, so that a remove and an insert in
/// turn do not merge and split the same nodes again and again.
const MERGE_FILL: usize = MAX_FILL - MIN_FILL;
/// How many places a full vector grows by. Doubling would leave a third of the index's memory unused.
const GROWTH: usize = 4;

/// What an entry weighs in the sums of the tree.
pub trait Weigh {
    /// The weight. It may change only inside [`Tree::update`].
    fn weight(&self) -> u64;
}

/// A key that can stand between two nodes.
pub trait TreeKey: Ord + Clone {
    /// Some key above `below` and at most `above`, as short as can be.
    fn separator(below: &Self, above: &Self) -> Self;
}

impl TreeKey for Key {
    fn separator(below: &Self, above: &Self) -> Self {
        let common = below.iter().zip(above.iter()).take_while(|(low, high)| low == high).count();
        above[..common + 1].into()
    }
}

impl TreeKey for i64 {
    fn separator(_below: &Self, above: &Self) -> Self {
        *above
    }
}

/// A counted, weighted, ordered map. Clones are O(1) snapshots.
#[derive(Clone)]
pub struct Tree<K, V> {
    root: Subtree<K, V>,
}

/// A node with the sums of what is under it.
#[derive(Clone)]
struct Subtree<K, V> {
    node: Arc<Node<K, V>>,
    count: usize,
    weight: u64,
}

#[derive(Clone)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    Inner(Inner<K, V>),
}

#[derive(Clone)]
struct Inner<K, V> {
    /// One fewer than children. Shared apart from the children, as they change much more rarely.
    separators: Arc<Vec<K>>,
    children: Vec<Subtree<K, V>>,
}

/// What an insert did to a subtree.
struct Inserted<K, V> {
    replaced: Option<V>,
    /// The upper half of a node that grew too big, and the separator below it.
    split: Option<(K, Subtree<K, V>)>,
}

impl<K: TreeKey, V: Clone + Weigh> Tree<K, V> {
    /// An empty tree.
    pub fn new() -> Self {
        Self { root: Subtree::of(Node::Leaf(Vec::new())) }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.root.count
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.root.count == 0
    }

    /// Sum of the weights of all entries.
    pub fn total_weight(&self) -> u64 {
        self.root.weight
    }

    /// The value of `key`.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The stored key that equals `key`, and its value.
    pub fn get_key_value<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut node = &*self.root.node;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let (key, value) = &entries[find(entries, key).ok()?];
                    return Some((key, value));
                }
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)].node,
            }
        }
    }

    /// Sets `key` to `value` and gives the value before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Inserted { replaced, split } = self.root.insert(key, value);
        if let Some((separator, upper)) = split {
            let lower = std::mem::replace(&mut self.root, Subtree::of(Node::Leaf(Vec::new())));
            self.root = Subtree::of(Node::Inner(Inner {
                separators: Arc::new(vec![separator]),
                children: vec![lower, upper],
            }));
        }
        replaced
    }

    /// Removes `key` and gives its value.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        // Looked up first, so that a miss copies no node.
        self.get(key)?;
        let removed = self.root.remove(key);
        while let Node::Inner(inner) = &*self.root.node
            && let [only] = &inner.children[..]
        {
            self.root = only.clone();
        }
        removed
    }

    /// Lets `change` alter the value of `key`, its weight included; `None` without a call when there is
    /// no such key.
    pub fn update<Q, R>(&mut self, key: &Q, change: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get(key)?;
        self.root.update(key, change)
    }

    /// How many entries lie before the lower bound `bound`: entries below the key when it is included,
    /// up to and with the key when it is excluded, none when it is unbounded.
    pub fn rank<Q>(&self, bound: Bound<&Q>) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (key, with_equal) = match bound {
            Bound::Included(key) => (key, false),
            Bound::Excluded(key) => (key, true),
            Bound::Unbounded => return 0,
        };
        let mut before = 0;
        let mut node = &*self.root.node;
        loop {
            match node {
                Node::Leaf(entries) => {
                    return before
                        + match find(entries, key) {
                            Ok(at) => at + usize::from(with_equal),
                            Err(at) => at,
                        };
                }
                Node::Inner(inner) => {
                    let at = inner.child_of(key);
                    before += inner.children[..at].iter().map(|child| child.count).sum::<usize>();
                    node = &inner.children[at].node;
                }
            }
        }
    }

    /// Sum of the weights of the first `rank` entries; of all when there are fewer.
    pub fn weight_before(&self, rank: usize) -> u64 {
        if rank >= self.len() {
            return self.total_weight();
        }
        let mut rank = rank;
        let mut before = 0;
        let mut node = &*self.root.node;
        loop {
            match node {
                Node::Leaf(entries) => {
                    return before + entries[..rank].iter().map(|(_, value)| value.weight()).sum::<u64>();
                }
                Node::Inner(inner) => {
                    let at = inner.child_at_rank(&mut rank);
                    before += inner.children[..at].iter().map(|child| child.weight).sum::<u64>();
                    node = &inner.children[at].node;
                }
            }
        }
    }

    /// The entry at position `rank`, from 0.
    pub fn at(&self, rank: usize) -> Option<(&K, &V)> {
        self.ranks(rank, self.len()).next()
    }

    /// The first entry.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.at(0)
    }

    /// The last entry.
    pub fn last(&self) -> Option<(&K, &V)> {
        self.at(self.len().checked_sub(1)?)
    }

    /// The entries between two bounds, in order; none when the bounds are inverted.
    pub fn range<Q>(&self, lower: Bound<&Q>, upper: Bound<&Q>) -> Range<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        // An upper bound ends where the opposite lower bound begins.
        let end = match upper {
            Bound::Included(key) => self.rank(Bound::Excluded(key)),
            Bound::Excluded(key) => self.rank(Bound::Included(key)),
            Bound::Unbounded => self.len(),
        };
        self.ranks(self.rank(lower), end)
    }

    /// The entries at positions `from` up to but without `to`, in order; none when they are inverted.
    pub fn ranks(&self, from: usize, to: usize) -> Range<'_, K, V> {
        let remaining = to.min(self.len()).saturating_sub(from);
        let mut range = Range { above: Vec::new(), leaf: [].iter(), remaining };
        if remaining > 0 {
            range.descend(&self.root.node, from);
        }
        range
    }

    /// All entries in order.
    pub fn iter(&self) -> Range<'_, K, V> {
        self.ranks(0, self.len())
    }
}

impl<K: TreeKey, V: Clone + Weigh> Default for Tree<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: TreeKey + fmt::Debug, V: Clone + Weigh + fmt::Debug> fmt::Debug for Tree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: TreeKey, V: Clone + Weigh> Subtree<K, V> {
    fn of(node: Node<K, V>) -> Self {
        let (count, weight) = node.sums();
        Self { node: Arc::new(node), count, weight }
    }

    fn insert(&mut self, key: K, value: V) -> Inserted<K, V> {
        let added = value.weight();
        let node = Arc::make_mut(&mut self.node);
        let (replaced, appended) = match node {
            Node::Leaf(entries) => match find::<K, V, K>(entries, &key) {
                Ok(at) => (Some(std::mem::replace(&mut entries[at].1, value)), false),
                Err(at) => {
                    insert_at(entries, at, (key, value));
                    (None, at + 1 == entries.len())
                }
            },
            Node::Inner(inner) => {
                let at = inner.child_of(&key);
                let Inserted { replaced, split } = inner.children[at].insert(key, value);
                if let Some((separator, upper)) = split {
                    insert_at(Arc::make_mut(&mut inner.separators), at, separator);
                    insert_at(&mut inner.children, at + 1, upper);
                }
                (replaced, at + 2 == inner.children.len())
            }
        };
        self.count += usize::from(replaced.is_none());
        self.weight = self.weight + added - replaced.as_ref().map_or(0, Weigh::weight);
        let split = (node.fill() > MAX_FILL).then(|| self.split(appended));
        Inserted { replaced, split }
    }

    /// Moves the upper part of a node that is too big into a new one. A node that grew at its end keeps
    /// most: keys that come in ascending order would otherwise leave every node half full.
    fn split(&mut self, appended: bool) -> (K, Self) {
        let node = Arc::make_mut(&mut self.node);
        let keep = if appended { MERGE_FILL } else { MAX_FILL / 2 };
        let (separator, upper) = node.split_off(keep);
        let upper = Self::of(upper);
        self.count -= upper.count;
        self.weight -= upper.weight;
        (separator, upper)
    }

    fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let removed = match Arc::make_mut(&mut self.node) {
            Node::Leaf(entries) => {
                let at = find(entries, key).ok()?;
                entries.remove(at).1
            }
            Node::Inner(inner) => {
                let at = inner.child_of(key);
                let removed = inner.children[at].remove(key)?;
                if inner.children[at].node.fill() < MIN_FILL {
                    inner.refill(at);
                }
                removed
            }
        };
        self.count -= 1;
        self.weight -= removed.weight();
        Some(removed)
    }

    fn update<Q, R>(&mut self, key: &Q, change: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (before, after, result) = match Arc::make_mut(&mut self.node) {
            Node::Leaf(entries) => {
                let at = find(entries, key).ok()?;
                let value = &mut entries[at].1;
                let before = value.weight();
                let result = change(value);
                (before, value.weight(), result)
            }
            Node::Inner(inner) => {
                let at = inner.child_of(key);
                let child = &mut inner.children[at];
                let before = child.weight;
                let result = child.update(key, change)?;
                (before, child.weight, result)
            }
        };
        self.weight = self.weight - before + after;
        Some(result)
    }
}

impl<K: TreeKey, V: Clone + Weigh> Node<K, V> {
    /// Entries of a leaf, children of an inner node.
    fn fill(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    /// Number and weight of the entries under the node.
    fn sums(&self) -> (usize, u64) {
        match self {
            Node::Leaf(entries) => (entries.len(), entries.iter().map(|(_, value)| value.weight()).sum()),
            Node::Inner(inner) => inner
                .children
                .iter()
                .fold((0, 0), |(count, weight), child| (count + child.count, weight + child.weight)),
        }
    }

    /// Keeps the first `keep` entries or children; the rest becomes a node of its own, with the separator
    /// between the two.
    fn split_off(&mut self, keep: usize) -> (K, Self) {
        match self {
            Node::Leaf(entries) => {
                let upper = split_vec(entries, keep);
                (K::separator(&entries[keep - 1].0, &upper[0].0), Node::Leaf(upper))
            }
            Node::Inner(inner) => {
                let children = split_vec(&mut inner.children, keep);
                let separators = Arc::make_mut(&mut inner.separators);
                let above = separators.split_off(keep);
                let separator = separators.remove(keep - 1);
                (separator, Node::Inner(Inner { separators: Arc::new(above), children }))
            }
        }
    }

    /// Takes over everything of the right neighbour; `separator` stood between the two.
    fn append(&mut self, separator: K, right: Self) {
        match (self, right) {
            (Node::Leaf(entries), Node::Leaf(more)) => entries.extend(more),
            (Node::Inner(inner), Node::Inner(more)) => {
                let separators = Arc::make_mut(&mut inner.separators);
                separators.push(separator);
                separators.extend(Arc::unwrap_or_clone(more.separators));
                inner.children.extend(more.children);
            }
            _ => unreachable!("neighbours are equally deep"),
        }
    }
}

impl<K: TreeKey, V: Clone + Weigh> Inner<K, V> {
    /// Position of the child that holds `key` if any does.
    fn child_of<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let above = self.separators.iter().position(|separator| Borrow::<Q>::borrow(separator) > key);
        above.unwrap_or(self.separators.len())
    }

    /// Position of the child that holds the entry of rank `rank`, which becomes its rank in that child.
    /// The caller made sure that there is such an entry.
    fn child_at_rank(&self, rank: &mut usize) -> usize {
        let mut at = 0;
        while *rank >= self.children[at].count {
            *rank -= self.children[at].count;
            at += 1;
        }
        at
    }

    /// Makes one node of the child at `at` and a neighbour, or shares their contents evenly when one
    /// node could not hold them.
    fn refill(&mut self, at: usize) {
        let left = at.saturating_sub(1);
        let separators = Arc::make_mut(&mut self.separators);
        let separator = separators.remove(left);
        let right = Arc::unwrap_or_clone(self.children.remove(left + 1).node);
        let child = &mut self.children[left];
        let node = Arc::make_mut(&mut child.node);
        node.append(separator, right);
        let fill = node.fill();
        let upper = (fill > MERGE_FILL).then(|| node.split_off(fill / 2));
        (child.count, child.weight) = node.sums();
        if let Some((separator, upper)) = upper {
            separators.insert(left, separator);
            self.children.insert(left + 1, Subtree::of(upper));
        }
    }
}

/// Where `key` is in a leaf, or where it would have to be.
///
/// One by one, as is [`Inner::child_of`]: the processor fetches the next keys while it compares one. A
/// binary search of nodes this small waits for every key it looks at and was measured four times slower.
fn find<K, V, Q>(entries: &[(K, V)], key: &Q) -> Result<usize, usize>
where
    K: Borrow<Q>,
    Q: Ord + ?Sized,
{
    for (at, (other, _)) in entries.iter().enumerate() {
        match other.borrow().cmp(key) {
            Ordering::Less => {}
            Ordering::Equal => return Ok(at),
            Ordering::Greater => return Err(at),
        }
    }
    Err(entries.len())
}

/// Keeps the first `keep` items and gives the rest. What is kept moves to memory of its size: an allocator
/// would hardly shrink the old, and only nodes that are written again grow into it.
fn split_vec<T>(items: &mut Vec<T>, keep: usize) -> Vec<T> {
    let upper = items.split_off(keep);
    let mut lower = Vec::with_capacity(keep);
    lower.append(items);
    *items = lower;
    upper
}

fn insert_at<T>(items: &mut Vec<T>, at: usize, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact(GROWTH);
    }
    items.insert(at, item);
}

/// Entries of a [`Tree`] in order. O(log n) to begin, O(1) for a step on average.
pub struct Range<'a, K, V> {
    /// The children still to be visited, of every inner node on the path to the leaf.
    above: Vec<slice::Iter<'a, Subtree<K, V>>>,
    leaf: slice::Iter<'a, (K, V)>,
    remaining: usize,
}

impl<'a, K: TreeKey, V: Clone + Weigh> Range<'a, K, V> {
    /// Goes down from `node` to the entry of rank `rank` under it.
    fn descend(&mut self, node: &'a Node<K, V>, mut rank: usize) {
        let mut node = node;
        loop {
            match node {
                Node::Leaf(entries) => {
                    self.leaf = entries[rank..].iter();
                    return;
                }
                Node::Inner(inner) => {
                    let at = inner.child_at_rank(&mut rank);
                    self.above.push(inner.children[at + 1..].iter());
                    node = &inner.children[at].node;
                }
            }
        }
    }
}

impl<'a, K: TreeKey, V: Clone + Weigh> Iterator for Range<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            match self.above.last_mut()?.next() {
                Some(child) => self.descend(&child.node, 0),
                None => {
                    self.above.pop();
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<K: TreeKey, V: Clone + Weigh> ExactSizeIterator for Range<'_, K, V> {}
