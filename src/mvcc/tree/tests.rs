use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Weight(u64);

impl Weigh for Weight {
    fn weight(&self) -> u64 {
        self.0
    }
}

type Model = BTreeMap<Key, Weight>;

/// Checks order, fill, depth and sums of the whole tree, and gives its depth.
fn check_structure<K: TreeKey + fmt::Debug, V: Clone + Weigh>(tree: &Tree<K, V>) -> usize {
    if let Node::Inner(inner) = &*tree.root.node {
        assert!(inner.children.len() >= 2, "an inner root with {} children", inner.children.len());
    }
    let keys: Vec<&K> = tree.iter().map(|(key, _)| key).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "keys out of order: {keys:?}");
    assert_eq!(keys.len(), tree.len());
    check_subtree(&tree.root, true, None, None)
}

fn check_subtree<K: TreeKey + fmt::Debug, V: Clone + Weigh>(
    subtree: &Subtree<K, V>,
    is_root: bool,
    low: Option<&K>,
    high: Option<&K>,
) -> usize {
    let node = &*subtree.node;
    assert_eq!((subtree.count, subtree.weight), node.sums());
    assert!(node.fill() <= MAX_FILL && (is_root || node.fill() >= MIN_FILL), "fill {}", node.fill());
    match node {
        Node::Leaf(entries) => {
            for (key, _) in entries {
                assert!(low.is_none_or(|low| low <= key), "{key:?} below its separator {low:?}");
                assert!(high.is_none_or(|high| key < high), "{key:?} at or above separator {high:?}");
            }
            1
        }
        Node::Inner(inner) => {
            assert_eq!(inner.separators.len() + 1, inner.children.len());
            let depths: Vec<usize> = (0..inner.children.len())
                .map(|at| {
                    let low = if at == 0 { low } else { inner.separators.get(at - 1) };
                    let high = inner.separators.get(at).or(high);
                    check_subtree(&inner.children[at], false, low, high)
                })
                .collect();
            assert!(depths.iter().all(|depth| *depth == depths[0]), "uneven depths {depths:?}");
            depths[0] + 1
        }
    }
}

fn check_same(tree: &Tree<Key, Weight>, model: &Model) {
    check_structure(tree);
    assert!(tree.iter().eq(model.iter()), "{tree:?}\nis not\n{model:?}");
    assert_eq!(tree.total_weight(), model.values().map(|weight| weight.0).sum::<u64>());
    assert_eq!(tree.first(), model.first_key_value());
    assert_eq!(tree.last(), model.last_key_value());
}

fn check_queries(tree: &Tree<Key, Weight>, model: &Model, low: &Key, high: &Key) {
    assert_eq!(tree.get(&low[..]), model.get(low));
    assert_eq!(tree.rank::<[u8]>(Bound::Included(low)), model.range(..low.clone()).count());
    assert_eq!(tree.rank::<[u8]>(Bound::Excluded(low)), model.range(..=low.clone()).count());
    let rank = usize::from(high.first().copied().unwrap_or(0));
    assert_eq!(tree.weight_before(rank), model.values().take(rank).map(|weight| weight.0).sum::<u64>());
    assert_eq!(tree.at(rank), model.iter().nth(rank));
    for (lower, upper) in [
        (Bound::Included(low), Bound::Excluded(high)),
        (Bound::Excluded(low), Bound::Included(high)),
        (Bound::Included(low), Bound::Included(high)),
        (Bound::Unbounded, Bound::Excluded(high)),
        (Bound::Excluded(low), Bound::Unbounded),
    ] {
        let inside = |key: &&Key| {
            (match lower {
                Bound::Included(low) => *key >= low,
                Bound::Excluded(low) => *key > low,
                Bound::Unbounded => true,
            }) && (match upper {
                Bound::Included(high) => *key <= high,
                Bound::Excluded(high) => *key < high,
                Bound::Unbounded => true,
            })
        };
        let range = tree.range::<Key>(lower, upper);
        assert_eq!(range.len(), model.keys().filter(inside).count());
        assert!(range.map(|(key, _)| key).eq(model.keys().filter(inside)), "{lower:?} {upper:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Key, u64),
    Remove(Key),
    RemoveAbout(usize),
    Update(Key, u64),
    Snapshot,
    Query(Key, Key),
}

fn key() -> impl Strategy<Value = Key> {
    // Few byte values and mixed lengths: many hits, many common prefixes. Behind 20 bytes some are long
    // enough to be shared and some are not.
    let tail = vec(prop_oneof![Just(0u8), Just(1), Just(7), Just(200), Just(255)], 0..6);
    (prop_oneof![3 => Just(0usize), 1 => Just(20)], tail)
        .prop_map(|(zeros, tail)| Key::from(&[vec![0; zeros], tail].concat()[..]))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (key(), 0..100u64).prop_map(|(key, weight)| Step::Insert(key, weight)),
        2 => key().prop_map(Step::Remove),
        2 => any::<u16>().prop_map(|rank| Step::RemoveAbout(rank.into())),
        1 => (key(), 0..100u64).prop_map(|(key, weight)| Step::Update(key, weight)),
        1 => Just(Step::Snapshot),
        1 => (key(), key()).prop_map(|(low, high)| Step::Query(low, high)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_is_the_standard_map_with_counts_and_snapshots(steps in vec(step(), 0..600)) {
        let mut tree = Tree::new();
        let mut model = Model::new();
        let mut snapshots = Vec::new();
        for step in steps {
            match step {
                Step::Insert(key, weight) => prop_assert_eq!(
                    tree.insert(key.clone(), Weight(weight)),
                    model.insert(key, Weight(weight))
                ),
                Step::Remove(key) => prop_assert_eq!(tree.remove(&key[..]), model.remove(&key)),
                Step::RemoveAbout(rank) if !model.is_empty() => {
                    let key = model.keys().nth(rank % model.len()).cloned().unwrap();
                    prop_assert_eq!(tree.remove(&key[..]), model.remove(&key));
                }
                Step::RemoveAbout(_) => {}
                Step::Update(key, weight) => {
                    let change = |value: &mut Weight| std::mem::replace(value, Weight(weight));
                    prop_assert_eq!(tree.update(&key[..], change), model.get_mut(&key).map(change));
                }
                Step::Snapshot => snapshots.push((tree.clone(), model.clone())),
                Step::Query(low, high) => check_queries(&tree, &model, &low, &high),
            }
        }
        check_same(&tree, &model);
        for (tree, model) in &snapshots {
            check_same(tree, model);
        }
    }
}

fn check_depth(tree: &Tree<i64, Weight>, most: usize) {
    let depth = check_structure(tree);
    assert!(depth <= most, "depth {depth} with {} entries", tree.len());
}

#[test]
fn ascending_keys_fill_the_nodes() {
    let mut tree = Tree::new();
    for key in 0..20_000i64 {
        tree.insert(key, Weight(1));
    }
    // Three quarters of 24 in every node: 20000 / 18 leaves under 18-way nodes.
    check_depth(&tree, 4);
    assert_eq!(tree.weight_before(12_345), 12_345);
    assert_eq!(tree.at(19_999), Some((&19_999, &Weight(1))));
    assert_eq!(tree.at(20_000), None);
}

#[test]
fn depth_follows_the_size_down_and_up() {
    let mut tree = Tree::new();
    // A full-period walk over 0..8192, so neighbours come and go far apart in time.
    let walk = |round: i64| (0..8192i64).map(move |n| (n * 4621 + round * 977) % 8192);
    for round in 0..2 {
        for key in walk(round) {
            tree.insert(key, Weight(2));
        }
        check_depth(&tree, 4);
        let snapshot = tree.clone();
        // What is left is fewer than two leaves hold at least.
        for key in walk(round + 5).take(8182) {
            assert_eq!(tree.remove(&key), Some(Weight(2)));
        }
        check_depth(&tree, 1);
        assert_eq!(tree.total_weight(), 20);
        assert_eq!(snapshot.len(), 8192);
        check_depth(&snapshot, 4);
    }
}

#[test]
fn separators_are_short() {
    let separator = |below: &'static str, above: &'static str| {
        Key::separator(&below.as_bytes().into(), &above.as_bytes().into()).to_bytes()
    };
    assert_eq!(separator("abcde", "abxyz"), "abx");
    assert_eq!(separator("ab", "abc"), "abc");
    assert_eq!(separator("", "z9"), "z");
}

#[test]
fn a_miss_copies_nothing() {
    let mut tree = Tree::new();
    for key in 0..100i64 {
        tree.insert(key, Weight(1));
    }
    let snapshot = tree.clone();
    assert_eq!(tree.remove(&500), None);
    assert_eq!(tree.update(&500, |_| ()), None);
    assert!(Arc::ptr_eq(&tree.root.node, &snapshot.root.node));
}
