//! Random sequences. Few keys, values and leases, so that requests meet; every boundary that a field has,
//! each often enough to meet the others; and now and then what no client would send.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::step::{
    Alarm, Campaign, CancelWatch, Change, Compact, Compare, Constant, Delete, Ending, Grant, Leader, Lock,
    MemberChange, Observe, Operation, Put, Range, Step, TimeToLive, Txn, Watch,
};
use crate::text::{Lease, Member, Revision, Text};

/// Longest sequence.
const LONGEST: usize = 50;

/// Leases that scripts grant, with lives so different that none catches up with another: their order by
/// expiry is that of their lives.
const LEASES: [(i64, i64); 3] = [(7, 100), (8, 1_000), (-5, 10_000)];

/// The life of leases whose ids the servers choose.
const GIVEN_TTL: i64 = 5_000;

/// A sequence of one flavour: mixed at random, requests of one kind would not meet often enough.
/// One in six goes over the JSON gateway.
pub fn sequence() -> BoxedStrategy<Vec<Step>> {
    let steps = prop_oneof![
        3 => vec(key_values(), 1..LONGEST),
        3 => vec(prop_oneof![3 => key_values(), 2 => txn(3).prop_map(Step::Txn)], 1..LONGEST),
        2 => vec(prop_oneof![2 => key_values(), 3 => leases()], 1..LONGEST),
        3 => vec(prop_oneof![3 => writes(), 2 => watches()], 1..LONGEST),
        2 => vec(prop_oneof![1 => key_values(), 1 => leases(), 4 => services()], 1..LONGEST / 2),
        1 => vec(prop_oneof![2 => key_values(), 3 => upkeep()], 1..LONGEST),
        2 => vec(everything(), 1..LONGEST),
        2 => vec(many(), 1..LONGEST / 2),
    ];
    (steps, rarely(17))
        .prop_map(|(mut steps, over_http)| {
            if over_http {
                steps.insert(0, Step::OverHttp);
            }
            steps
        })
        .boxed()
}

/// Many keys, and some of them large, so that answers come in chunks. Only sorted by key: how etcd orders
/// more than twelve keys of which some are equal in what they are sorted by, nobody has said.
fn many() -> BoxedStrategy<Step> {
    let padding = prop_oneof![6 => Just(0usize), 2 => Just(2_000), 1 => Just(100_000)];
    let large = (key(), padding).prop_map(|(key, padding)| Put { key, padding, ..Put::default() });
    let by_key =
        (streamed(), 0..3i32).prop_map(|(range, sort_order)| Range { sort_order, sort_target: 0, ..range });
    let limited = (streamed(), 5i64..40).prop_map(|(range, limit)| Range { limit, ..range });
    prop_oneof![
        4 => fill().prop_map(Step::Txn),
        3 => large.prop_map(Step::Put),
        4 => streamed().prop_map(Step::RangeStream),
        3 => limited.prop_map(Step::RangeStream),
        4 => by_key.prop_map(Step::Range),
        1 => delete().prop_map(Step::Delete),
        1 => compact().prop_map(Step::Compact),
        2 => watches(),
    ]
    .boxed()
}

/// A transaction that puts keys which lie between the others.
fn fill() -> BoxedStrategy<Txn> {
    (0u32..60, 1u32..40, value())
        .prop_map(|(first, count, value)| {
            let put = |number: u32| {
                let key = Text(format!("a{number:02}").into_bytes());
                Operation::Put(Put { key, value: value.clone(), ..Put::default() })
            };
            Txn { success: (first..first + count).map(put).collect(), ..Txn::default() }
        })
        .boxed()
}

fn everything() -> BoxedStrategy<Step> {
    prop_oneof![
        6 => key_values(),
        3 => txn(3).prop_map(Step::Txn),
        3 => leases(),
        2 => watches(),
        1 => services(),
        1 => upkeep(),
    ]
    .boxed()
}

fn text(bytes: &'static [u8]) -> Just<Text> {
    Just(Text::from(bytes))
}

fn one_of(texts: &'static [&'static [u8]]) -> impl Strategy<Value = Text> {
    proptest::sample::select(texts).prop_map(Text::from)
}

/// Keys that exist often, at the boundaries of how keys are ordered.
fn key() -> BoxedStrategy<Text> {
    prop_oneof![
        30 => one_of(&[b"a", b"b", b"c"]),
        20 => one_of(&[b"aa", b"ab", b"a\0", b"a\xff", b"\xff", b"\xff\xff", b"\0"]),
        1 => text(b""),
    ]
    .boxed()
}

fn range_end() -> BoxedStrategy<Text> {
    prop_oneof![
        6 => text(b""),
        3 => text(b"\0"),
        5 => one_of(&[b"b", b"c", b"d", b"ab", b"ac"]),
        2 => one_of(&[b"a", b"a\0", b"\xff", b"\xff\xff", b"\xff\xff\xff", b"\0\0", b"a\xff\xff"]),
    ]
    .boxed()
}

fn value() -> BoxedStrategy<Text> {
    one_of(&[b"", b"x", b"y", b"z", b"xx", b"\0", b"\xff"]).boxed()
}

/// The revision to read at, and where a watch begins.
fn revision() -> BoxedStrategy<Revision> {
    prop_oneof![
        8 => Just(Revision::At(0)),
        2 => Just(Revision::Now(0)),
        4 => (-8i64..0).prop_map(Revision::Now),
        1 => (1i64..4).prop_map(Revision::Now),
        2 => (-1i64..3).prop_map(Revision::Compacted),
        1 => extreme().prop_map(Revision::At),
    ]
    .boxed()
}

/// One of the four bounds of a range.
fn bound() -> BoxedStrategy<Revision> {
    prop_oneof![
        12 => Just(Revision::At(0)),
        3 => (-8i64..2).prop_map(Revision::Now),
        1 => extreme().prop_map(Revision::At),
    ]
    .boxed()
}

fn extreme() -> BoxedStrategy<i64> {
    proptest::sample::select(&[-1, 1, i64::MAX, i64::MIN][..]).boxed()
}

/// A known value of an enumeration, or one that nobody knows.
fn enumeration(known: i32, unknown: u32) -> BoxedStrategy<i32> {
    prop_oneof![100 - unknown => 0..known, unknown => proptest::sample::select(vec![known, 9, -1, i32::MAX])]
        .boxed()
}

fn rarely(percent: u32) -> BoxedStrategy<bool> {
    proptest::bool::weighted(f64::from(percent) / 100.0).boxed()
}

fn lease() -> BoxedStrategy<Lease> {
    prop_oneof![
        6 => proptest::sample::select(&LEASES[..]).prop_map(|(id, _)| Lease::Id(id)),
        2 => (0usize..2).prop_map(Lease::Given),
        1 => proptest::sample::select(&[99, 0, i64::MIN, i64::MAX][..]).prop_map(Lease::Id),
    ]
    .boxed()
}

fn range() -> BoxedStrategy<Range> {
    let limit = prop_oneof![
        4 => Just(0),
        4 => 1i64..5,
        1 => proptest::sample::select(&[-1, i64::MAX, i64::MIN][..]),
    ];
    let order = prop_oneof![2 => Just((0, 0)), 3 => (enumeration(3, 2), enumeration(5, 2))];
    let bounds = prop_oneof![
        3 => Just([Revision::default(); 4]),
        2 => [bound(), bound(), bound(), bound()],
    ];
    ((key(), range_end()), (limit, revision()), order, (rarely(20), rarely(15), rarely(10)), bounds)
        .prop_map(|((key, range_end), (limit, revision), (sort_order, sort_target), flags, bounds)| Range {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable: flags.0,
            keys_only: flags.1,
            count_only: flags.2,
            min_mod_revision: bounds[0],
            max_mod_revision: bounds[1],
            min_create_revision: bounds[2],
            max_create_revision: bounds[3],
        })
        .boxed()
}

/// A range that a stream serves, mostly.
fn streamed() -> BoxedStrategy<Range> {
    (range(), rarely(80))
        .prop_map(|(range, served)| {
            if !served {
                return range;
            }
            let none = Revision::default();
            Range {
                sort_order: range.sort_order.min(1),
                sort_target: 0,
                min_mod_revision: none,
                max_mod_revision: none,
                min_create_revision: none,
                max_create_revision: none,
                ..range
            }
        })
        .boxed()
}

fn put() -> BoxedStrategy<Put> {
    let lease = prop_oneof![6 => Just(Lease::default()), 3 => lease()];
    (key(), value(), lease, rarely(40), rarely(10), rarely(10))
        .prop_map(|(key, value, lease, prev_kv, ignore_value, ignore_lease)| Put {
            key,
            value,
            padding: 0,
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        })
        .boxed()
}

/// A put that only keeps what there is.
fn touch() -> BoxedStrategy<Put> {
    let flags = prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))];
    (key(), flags, rarely(50))
        .prop_map(|(key, (ignore_value, ignore_lease), prev_kv)| Put {
            key,
            ignore_value,
            ignore_lease,
            prev_kv,
            ..Put::default()
        })
        .boxed()
}

fn delete() -> BoxedStrategy<Delete> {
    (key(), range_end(), any::<bool>())
        .prop_map(|(key, range_end, prev_kv)| Delete { key, range_end, prev_kv })
        .boxed()
}

fn compact() -> BoxedStrategy<Compact> {
    let revision = prop_oneof![
        3 => (-6i64..=0).prop_map(Revision::Now),
        1 => Just(Revision::Now(1)),
        2 => (-1i64..=2).prop_map(Revision::Compacted),
        1 => proptest::sample::select(&[0, -1, 1, i64::MAX, i64::MIN][..]).prop_map(Revision::At),
    ];
    (revision, any::<bool>()).prop_map(|(revision, physical)| Compact { revision, physical }).boxed()
}

fn key_values() -> BoxedStrategy<Step> {
    prop_oneof![
        12 => put().prop_map(Step::Put),
        3 => touch().prop_map(Step::Put),
        10 => range().prop_map(Step::Range),
        3 => streamed().prop_map(Step::RangeStream),
        4 => delete().prop_map(Step::Delete),
        2 => txn(1).prop_map(Step::Txn),
        2 => compact().prop_map(Step::Compact),
        1 => revision().prop_map(Step::HashKv),
    ]
    .boxed()
}

/// What watchers hear of.
fn writes() -> BoxedStrategy<Step> {
    prop_oneof![
        10 => put().prop_map(Step::Put),
        4 => delete().prop_map(Step::Delete),
        4 => txn(2).prop_map(Step::Txn),
        1 => compact().prop_map(Step::Compact),
        2 => leases(),
    ]
    .boxed()
}

fn constant(target: i32) -> BoxedStrategy<Option<Constant>> {
    let any_constant = prop_oneof![
        (0i64..3).prop_map(Constant::Version),
        bound().prop_map(Constant::Create),
        bound().prop_map(Constant::Mod),
        value().prop_map(Constant::Value),
        prop_oneof![Just(0i64), Just(7), Just(8), Just(-5)].prop_map(Constant::Lease),
    ]
    .boxed();
    let fitting = match target {
        0 => (0i64..4).prop_map(Constant::Version).boxed(),
        1 => prop_oneof![1 => Just(Revision::At(0)), 2 => (-8i64..1).prop_map(Revision::Now)]
            .prop_map(Constant::Create)
            .boxed(),
        2 => (-8i64..1).prop_map(|distance| Constant::Mod(Revision::Now(distance))).boxed(),
        3 => value().prop_map(Constant::Value).boxed(),
        4 => proptest::sample::select(&[0i64, 7, 8, -5][..]).prop_map(Constant::Lease).boxed(),
        _ => any_constant.clone(),
    };
    prop_oneof![
        16 => fitting.prop_map(Some),
        1 => option::of(any_constant),
    ]
    .boxed()
}

fn compare() -> BoxedStrategy<Compare> {
    let end = prop_oneof![3 => text(b"").boxed(), 1 => range_end()];
    (key(), end, enumeration(4, 1), enumeration(5, 1))
        .prop_flat_map(|(key, range_end, result, target)| {
            constant(target).prop_map(move |constant| Compare {
                key: key.clone(),
                range_end: range_end.clone(),
                result,
                target,
                constant,
            })
        })
        .boxed()
}

fn operation(depth: u32) -> BoxedStrategy<Operation> {
    let simple = prop_oneof![
        20 => put().prop_map(Operation::Put),
        4 => touch().prop_map(Operation::Put),
        16 => range().prop_map(Operation::Range),
        10 => delete().prop_map(Operation::Delete),
    ];
    if depth == 0 {
        return prop_oneof![60 => simple, 1 => Just(Operation::Nothing)].boxed();
    }
    let nested = txn(depth - 1).prop_map(Operation::Txn);
    prop_oneof![60 => simple, 12 => nested, 1 => Just(Operation::Nothing)].boxed()
}

/// A transaction with others in it, down to a depth. Most have few operations: with more, two of them
/// write one key, and the transaction is refused.
fn txn(depth: u32) -> BoxedStrategy<Txn> {
    let usual = (vec(compare(), 0..3), vec(operation(depth), 0..4), vec(operation(depth), 0..4))
        .prop_map(|(compare, success, failure)| Txn { compare, success, failure });
    prop_oneof![40 => usual, 1 => crowded(depth)].boxed()
}

/// A transaction with about as many operations as one may have.
fn crowded(depth: u32) -> BoxedStrategy<Txn> {
    let many = (120usize..131, key()).prop_map(|(count, key)| {
        vec![Operation::Range(Range { key, count_only: true, ..Range::default() }); count]
    });
    let inner = (0usize..9).prop_map(|count| {
        let range = Range { key: Text::from(&b"a"[..]), ..Range::default() };
        let success = vec![Operation::Range(range); count];
        Operation::Txn(Txn { success, ..Txn::default() })
    });
    (many, inner, any::<bool>())
        .prop_map(move |(many, inner, into_failure)| {
            let mut operations = many;
            if depth > 0 {
                operations.push(inner);
            }
            if into_failure {
                Txn { failure: operations, ..Txn::default() }
            } else {
                Txn { success: operations, ..Txn::default() }
            }
        })
        .boxed()
}

fn grant() -> BoxedStrategy<Grant> {
    prop_oneof![
        8 => proptest::sample::select(&LEASES[..]).prop_map(|(id, ttl)| Grant { ttl, id }),
        2 => Just(Grant { ttl: GIVEN_TTL, id: 0 }),
        2 => (proptest::sample::select(&[0, 1, 2, 3, -1, i64::MIN, 9_000_000_001, i64::MAX][..]),
              proptest::sample::select(&[0, 7, 11, -11][..])).prop_map(|(ttl, id)| Grant { ttl, id }),
        1 => proptest::sample::select(&[i64::MIN, 9_000][..])
            .prop_map(|id| Grant { ttl: 9_000_000_000, id }),
    ]
    .boxed()
}

fn leases() -> BoxedStrategy<Step> {
    prop_oneof![
        6 => grant().prop_map(Step::Grant),
        3 => lease().prop_map(Step::Revoke),
        3 => vec(lease(), 0..4).prop_map(Step::KeepAlive),
        3 => (lease(), any::<bool>()).prop_map(|(lease, keys)| Step::TimeToLive(TimeToLive { lease, keys })),
        1 => Just(Step::Leases),
        4 => (key(), lease()).prop_map(|(key, lease)| Step::Put(Put { key, lease, ..Put::default() })),
        2 => put().prop_map(Step::Put),
    ]
    .boxed()
}

fn watch() -> BoxedStrategy<Watch> {
    let filters = prop_oneof![4 => Just(Vec::new()), 2 => vec(enumeration(2, 10), 0..3)];
    // Not -1, which stands for no watcher: what etcd sends to one of that name may come before it is made.
    let id = prop_oneof![4 => Just(0i64), 2 => proptest::sample::select(&[1, 2, 5, -3, i64::MAX][..])];
    ((0usize..2, key(), range_end()), (revision(), filters, id), (any::<bool>(), rarely(20), rarely(20)))
        .prop_map(|((stream, key, range_end), (start, filters, watch_id), flags)| Watch {
            stream,
            key,
            range_end,
            start,
            filters,
            prev_kv: flags.0,
            progress_notify: flags.1,
            watch_id,
            fragment: flags.2,
        })
        .boxed()
}

fn watches() -> BoxedStrategy<Step> {
    prop_oneof![
        6 => watch().prop_map(Step::Watch),
        2 => (0usize..2, proptest::sample::select(&[0, 1, 2, 5, -3, 77][..]))
            .prop_map(|(stream, watch_id)| Step::CancelWatch(CancelWatch { stream, watch_id })),
        2 => (0usize..2).prop_map(Step::Progress),
    ]
    .boxed()
}

/// What locks and elections are called. The name of leases that the servers choose is not among them.
fn name() -> BoxedStrategy<Text> {
    prop_oneof![6 => one_of(&[b"m", b"n"]), 1 => one_of(&[b"", b"m/7", b"\xff"])].boxed()
}

fn ending() -> BoxedStrategy<Ending> {
    prop_oneof![
        3 => Just(Ending::Turn),
        1 => Just(Ending::OwnKeyDeleted),
        1 => Just(Ending::OwnLeaseRevoked),
        1 => Just(Ending::CallerGone),
    ]
    .boxed()
}

fn services() -> BoxedStrategy<Step> {
    let key_in_line = one_of(&[b"m/7", b"m/8", b"n/7", b"n/-5", b"/7", b"a", b""]);
    let leader = (name(), lease(), prop_oneof![5 => Just(0i64), 1 => 1i64..3], value())
        .prop_map(|(name, lease, behind, value)| Leader { name, lease, behind, value });
    prop_oneof![
        6 => (name(), lease(), ending()).prop_map(|(name, lease, end)| Step::Lock(Lock { name, lease, end })),
        2 => key_in_line.prop_map(Step::Unlock),
        6 => (name(), lease(), value(), ending())
            .prop_map(|(name, lease, value, end)| Step::Campaign(Campaign { name, lease, value, end })),
        3 => leader.clone().prop_map(Step::Proclaim),
        3 => leader.prop_map(Step::Resign),
        2 => name().prop_map(Step::Leader),
        2 => (name(), lease()).prop_map(|(name, lease)| Step::Observe(Observe { name, lease })),
        5 => grant().prop_map(Step::Grant),
        1 => Just(Step::ProclaimNothing),
        1 => Just(Step::ResignNothing),
    ]
    .boxed()
}

fn member() -> BoxedStrategy<Member> {
    prop_oneof![Just(Member::None), Just(Member::Own), Just(Member::Unknown)].boxed()
}

/// Changes of members that fail everywhere: a cluster of one stays what it is.
fn member_change() -> BoxedStrategy<MemberChange> {
    let urls = vec(
        proptest::sample::select(
            &["", "http://", "127.0.0.1:1", "ftp://127.0.0.1:1", "http://127.0.0.1:1/x"][..],
        )
        .prop_map(str::to_owned),
        0..2,
    );
    let nobody = prop_oneof![Just(Member::None), Just(Member::Unknown)];
    prop_oneof![
        (urls.clone(), any::<bool>()).prop_map(|(urls, is_learner)| MemberChange {
            kind: Change::Add,
            urls,
            is_learner,
            ..MemberChange::default()
        }),
        (proptest::sample::select(&[Change::Remove, Change::Update, Change::Promote][..]), nobody, urls)
            .prop_map(|(kind, member, urls)| MemberChange { kind, member, urls, is_learner: false }),
        Just(MemberChange { kind: Change::Promote, member: Member::Own, ..MemberChange::default() }),
    ]
    .boxed()
}

fn upkeep() -> BoxedStrategy<Step> {
    let alarm = (enumeration(3, 5), member(), enumeration(3, 5)).prop_map(|(action, member, alarm)| Alarm {
        action,
        member,
        alarm,
    });
    prop_oneof![
        3 => Just(Step::Alarm(Alarm::default())),
        3 => alarm.prop_map(Step::Alarm),
        2 => Just(Step::Status),
        3 => revision().prop_map(Step::HashKv),
        1 => Just(Step::Hash),
        2 => any::<bool>().prop_map(Step::MemberList),
        2 => member_change().prop_map(Step::MemberChange),
        1 => member().prop_map(Step::MoveLeader),
        1 => Just(Step::AuthStatus),
        1 => proptest::sample::select(&["", "etcdserverpb.KV", "nobody"][..])
            .prop_map(|service| Step::Health(service.to_owned())),
        2 => compact().prop_map(Step::Compact),
    ]
    .boxed()
}

#[test]
fn a_script_is_read_as_it_was_written() {
    proptest!(ProptestConfig::with_cases(100), |(steps in sequence())| {
        prop_assert_eq!(crate::step::read(&crate::step::write(&steps)), Ok(steps));
    });
}
