//! Members come, change and go; the database and peers see them as etcd's do.

use proptest::prelude::*;

use super::*;

const LIMIT: u32 = 1;

fn url(number: u64) -> String {
    format!("http://10.0.0.{number}:2380")
}

/// A member whose one peer URL has its number.
fn member(id: u64) -> Member {
    Member { id: MemberId(id), peer_urls: vec![url(id)], ..Member::default() }
}

fn learner(id: u64) -> Member {
    Member { is_learner: true, ..member(id) }
}

fn add(member: Member) -> MemberChange {
    MemberChange::Add { member, max_learners: LIMIT }
}

fn update(id: u64, urls: &[u64]) -> MemberChange {
    MemberChange::Update { id: MemberId(id), peer_urls: urls.iter().map(|&number| url(number)).collect() }
}

fn attributes(name: &str) -> membershippb::Attributes {
    membershippb::Attributes { name: name.to_owned(), client_urls: vec!["http://c:2379".to_owned()] }
}

/// A cluster of voters 1 to `voters`, of which the first `started` have a name.
fn cluster(voters: u64, started: u64) -> Membership {
    let mut membership = Membership::new(ClusterId(7));
    for id in 1..=voters {
        membership.apply(add(member(id))).unwrap();
    }
    for id in 1..=started {
        assert!(membership.set_attributes(MemberId(id), &attributes("m")));
    }
    membership
}

fn ids<'a>(members: impl Iterator<Item = &'a Member>) -> Vec<u64> {
    members.map(|member| member.id.0).collect()
}

/// Restores a membership from the rows that are left after all changes.
fn restored(rows: &BTreeMap<(Table, Bytes), Bytes>) -> Membership {
    let of = |table| {
        let rows = rows.iter().filter(|((row_table, _), _)| *row_table == table);
        rows.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    };
    let rows = MembershipRows {
        meta: of(Table::Meta),
        members: of(Table::Members),
        removed: of(Table::MembersRemoved),
        cluster: of(Table::Cluster),
    };
    Membership::restore(rows).unwrap().unwrap()
}

fn write_rows(membership: &mut Membership, rows: &mut BTreeMap<(Table, Bytes), Bytes>) {
    for (table, key, value) in membership.take_rows() {
        match value {
            Some(value) => rows.insert((table, key), value),
            None => rows.remove(&(table, key)),
        };
    }
}

fn assert_equal(one: &Membership, other: &Membership) {
    assert_eq!(one.cluster_id, other.cluster_id);
    assert_eq!(one.members, other.members);
    assert_eq!(one.removed, other.removed);
    assert_eq!(one.cluster_version, other.cluster_version);
}

#[test]
fn ids_are_those_of_etcd() {
    let urls = vec!["http://localhost:2380".to_owned()];
    let id = bootstrap_member_id(&urls, "etcd-cluster");
    assert_eq!(id.to_string(), "8e9e05c52164694d");
    assert_eq!(cluster_id([id]).to_string(), "cdf818194e3a8c32");
    let (a, b) = ("http://a:1".to_owned(), "http://b:1".to_owned());
    let sorted = bootstrap_member_id(&[a.clone(), b.clone()], "t");
    assert_eq!(sorted, bootstrap_member_id(&[b.clone(), a.clone()], "t"));
    assert_ne!(sorted, bootstrap_member_id(&[a.clone(), b], "u"));
    assert_eq!(added_member_id(std::slice::from_ref(&a), 17), bootstrap_member_id(&[a], "17"));
    assert_eq!(cluster_id([MemberId(2), MemberId(1)]), cluster_id([MemberId(1), MemberId(2)]));
}

#[test]
fn changes_are_refused_as_etcd_refuses_them() {
    use RequestError::*;
    let mut membership = cluster(3, 3);
    membership.apply(add(learner(4))).unwrap();
    membership.apply(MemberChange::Remove(MemberId(3))).unwrap();
    let rows = membership.take_rows().len();
    let mut check = |change: MemberChange, error| {
        assert_eq!(membership.validate(&change), Err(error), "{change:?}");
        assert_eq!(membership.apply(change.clone()), Err(error), "{change:?}");
    };
    check(add(member(1)), MemberIdExists);
    check(add(Member { peer_urls: vec![url(9), url(2)], ..member(9) }), PeerUrlExists);
    check(add(member(3)), MemberNotFound);
    check(add(learner(5)), TooManyLearners);
    check(MemberChange::Remove(MemberId(3)), MemberNotFound);
    check(MemberChange::Remove(MemberId(9)), MemberNotFound);
    check(update(9, &[9]), MemberNotFound);
    check(update(1, &[1, 4]), PeerUrlExists);
    check(MemberChange::Promote(MemberId(1)), MemberNotLearner);
    check(MemberChange::Promote(MemberId(9)), MemberNotFound);
    assert!(rows > 0 && membership.take_rows().is_empty(), "a refused change leaves no row");
    let wide = MemberChange::Add { member: learner(5), max_learners: 2 };
    assert_eq!(membership.validate(&wide), Ok(()), "the limit is the proposer's");
}

#[test]
fn new_urls_leave_the_role_and_a_promotion_leaves_the_urls() {
    let mut membership = cluster(1, 1);
    membership.apply(add(learner(2))).unwrap();
    membership.apply(update(2, &[9, 8])).unwrap();
    assert!(membership.is_learner(MemberId(2)));
    assert_eq!(membership.member(MemberId(2)).unwrap().peer_urls, [url(8), url(9)], "sorted");
    assert_eq!(membership.apply(update(2, &[9])), Ok(()), "its own URL does not clash");
    membership.apply(MemberChange::Promote(MemberId(2))).unwrap();
    assert_eq!((ids(membership.voters()), ids(membership.learners())), (vec![1, 2], vec![]));
    assert_eq!(membership.member(MemberId(2)).unwrap().peer_urls, [url(9)]);
}

#[test]
fn members_publish_their_attributes() {
    let mut membership = cluster(2, 0);
    let wanted = attributes("n1");
    assert!(
        !membership.is_published(MemberId(1), &wanted)
            && !membership.member(MemberId(1)).unwrap().is_started()
    );
    membership.take_rows();
    assert!(membership.set_attributes(MemberId(1), &wanted));
    assert!(membership.set_attributes(MemberId(1), &wanted));
    assert_eq!(membership.take_rows().len(), 1, "nothing to write the second time");
    assert!(
        membership.is_published(MemberId(1), &wanted) && membership.member(MemberId(1)).unwrap().is_started()
    );
    assert!(!membership.set_attributes(MemberId(9), &wanted));
    membership.apply(MemberChange::Remove(MemberId(2))).unwrap();
    assert!(!membership.set_attributes(MemberId(2), &wanted) && membership.is_removed(MemberId(2)));
}

#[test]
fn enough_members_must_have_started() {
    let ok = |result: Result<(), RequestError>| {
        assert!(matches!(result, Ok(()) | Err(RequestError::NotEnoughStarted)));
        result.is_ok()
    };
    // (voters, started) and whether a voter can be added, a learner promoted, the last voter removed.
    for (voters, started, can) in [
        (1, 1, [true, true, false]),
        (1, 0, [false, false, false]),
        (2, 2, [true, true, true]),
        (2, 1, [false, true, true]),
        (3, 2, [false, true, true]),
        (3, 3, [true, true, true]),
        (4, 2, [false, true, true]),
        (5, 2, [false, false, false]),
    ] {
        let membership = cluster(voters, started);
        let found = [
            ok(membership.check_started_to_add()),
            ok(membership.check_started_to_promote()),
            ok(membership.check_started_to_remove(MemberId(voters))),
        ];
        assert_eq!(found, can, "{started} of {voters} have started");
    }
    let mut membership = cluster(1, 0);
    membership.apply(add(learner(2))).unwrap();
    assert!(ok(membership.check_started_to_remove(MemberId(2))), "a learner can always go");
    assert_eq!([0, 1, 2, 3, 4, 5].map(quorum), [1, 1, 2, 2, 3, 3]);
}

#[test]
fn peers_and_clients_see_members_by_id() {
    let mut membership = Membership::new(ClusterId(7));
    membership.apply(add(learner(u64::MAX))).unwrap();
    membership.apply(add(member(2))).unwrap();
    membership.set_attributes(MemberId(2), &attributes("n2"));
    let json = concat!(
        r#"[{"id":2,"peerURLs":["http://10.0.0.2:2380"],"name":"n2","clientURLs":["http://c:2379"]},"#,
        r#"{"id":18446744073709551615,"peerURLs":["http://10.0.0.18446744073709551615:2380"],"isLearner":true}]"#
    );
    assert_eq!(membership.to_json(), json);
    assert_eq!(
        members_from_json(json.as_bytes()).unwrap(),
        membership.members().cloned().collect::<Vec<_>>()
    );
    let from_go = br#"[{"id":3,"peerURLs":null,"clientURLs":null,"new":1}]"#;
    let expected = Member { id: MemberId(3), ..Member::default() };
    assert_eq!(members_from_json(from_go).unwrap(), [expected]);
    assert!(members_from_json(b"[{}]").is_err() && members_from_json(b"").is_err());
    let wire = membership.to_wire();
    assert_eq!((wire[0].id, wire[0].name.as_str(), wire[0].is_learner), (2, "n2", false));
    assert_eq!((wire[1].id, wire[1].name.as_str(), wire[1].is_learner), (u64::MAX, "", true));
    assert_eq!(
        (&wire[0].peer_ur_ls, &wire[0].client_ur_ls),
        (&vec![url(2)], &vec!["http://c:2379".to_owned()])
    );
}

#[test]
fn a_change_survives_the_log() {
    let check = |change: MemberChange, json: &str| {
        assert_eq!(String::from_utf8(change.to_context()).unwrap(), json);
        assert_eq!(MemberChange::from_context(json.as_bytes()), Ok(change));
    };
    let peers = r#""peerURLs":["http://10.0.0.5:2380"]"#;
    check(add(learner(5)), &format!(r#"{{"id":5,{peers},"isLearner":true,"maxLearners":1}}"#));
    check(update(5, &[5]), &format!(r#"{{"id":5,{peers},"isUpdate":true}}"#));
    check(MemberChange::Promote(MemberId(5)), r#"{"id":5,"peerURLs":[],"isPromote":true}"#);
    check(MemberChange::Remove(MemberId(5)), r#"{"id":5,"peerURLs":[],"isRemove":true}"#);
    let from_etcd = br#"{"id":5,"peerURLs":["http://10.0.0.5:2380"],"name":"n","isPromote":false}"#;
    let named = Member { name: "n".to_owned(), ..member(5) };
    let expected = MemberChange::Add { member: named, max_learners: u32::MAX };
    assert_eq!(MemberChange::from_context(from_etcd), Ok(expected));
    for bad in ["", "{}", r#"{"id":0}"#, r#"{"id":1,"isPromote":true,"isRemove":true}"#] {
        assert!(MemberChange::from_context(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn damaged_rows_are_a_fault() {
    let id = Bytes::copy_from_slice(&1u64.to_be_bytes());
    let meta = vec![(Bytes::from("cluster_id"), id.clone())];
    let good = MembershipRows { meta, ..MembershipRows::default() };
    assert!(Membership::restore(MembershipRows::default()).unwrap().is_none());
    assert!(Membership::restore(good.clone()).unwrap().is_some());
    let row = rows::of_member(&member(1)).2.unwrap();
    let check = |rows: MembershipRows| assert!(Membership::restore(rows.clone()).is_err(), "{rows:?}");
    check(MembershipRows { members: vec![(id.clone(), row.clone())], ..MembershipRows::default() });
    check(MembershipRows { members: vec![("2".into(), row.clone())], ..good.clone() });
    check(MembershipRows { members: vec![(Bytes::from(vec![0; 8]), row.clone())], ..good.clone() });
    check(MembershipRows { members: vec![(id.clone(), "\u{1}".into())], ..good.clone() });
    check(MembershipRows { removed: vec![("1".into(), Bytes::new())], ..good.clone() });
    let twice =
        MembershipRows { members: vec![(id.clone(), row)], removed: vec![(id, Bytes::new())], ..good };
    check(twice);
}

fn change() -> impl Strategy<Value = MemberChange> {
    let id = || 1..6u64;
    prop_oneof![
        3 => (id(), any::<bool>()).prop_map(|(id, is_learner)| add(Member { is_learner, ..member(id) })),
        1 => id().prop_map(|id| MemberChange::Remove(MemberId(id))),
        2 => (id(), id()).prop_map(|(id, number)| update(id, &[number])),
        2 => id().prop_map(|id| MemberChange::Promote(MemberId(id))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_invariants_hold_and_a_restart_changes_nothing(changes in prop::collection::vec(change(), 1..30)) {
        let mut membership = Membership::new(ClusterId(7));
        let mut rows = BTreeMap::new();
        for change in changes {
            let before = membership.learners().map(|member| member.id).collect::<BTreeSet<_>>();
            let valid = membership.validate(&change);
            prop_assert_eq!(membership.apply(change.clone()), valid);
            for id in before {
                let promoted = matches!(change, MemberChange::Promote(promoted) if promoted == id);
                prop_assert!(membership.is_learner(id) || promoted || membership.is_removed(id));
            }
            let urls: Vec<_> = membership.members().flat_map(|member| &member.peer_urls).collect();
            prop_assert_eq!(urls.iter().collect::<BTreeSet<_>>().len(), urls.len());
            prop_assert!(membership.members().all(|member| !membership.is_removed(member.id)));
            prop_assert!(membership.learners().count() <= LIMIT as usize);
            membership.set_cluster_version("3.7.0".to_owned());
            write_rows(&mut membership, &mut rows);
            assert_equal(&restored(&rows), &membership);
        }
    }
}

#[test]
fn a_first_cluster_is_read_from_its_setting() {
    let cluster = InitialCluster::parse("b=http://b:1,,a=http://a:2,a=http://a:1", "t").unwrap();
    let a = cluster.local("a").unwrap();
    assert_eq!(a.peer_urls, ["http://a:1", "http://a:2"]);
    assert_eq!(a.id, bootstrap_member_id(&a.peer_urls, "t"));
    let membership = cluster.to_membership().unwrap();
    assert_eq!(membership.cluster_id(), cluster_id(cluster.members().map(|member| member.id)));
    assert_eq!((membership.members().len(), membership.statistics().voters), (2, 2));
    let one = InitialCluster::parse("default=http://localhost:2380", "etcd-cluster").unwrap();
    assert_eq!(one.cluster_id().to_string(), "cdf818194e3a8c32");
}

#[test]
fn a_bad_setting_is_refused_with_a_sentence() {
    let check = |setting: &str, expected: &str| {
        assert_eq!(InitialCluster::parse(setting, "t").unwrap_err().to_string(), expected);
    };
    check("", "initial cluster unset and no discovery URL found");
    check("a=http://x:1,b=http://x:1", "initial cluster a=http://x:1,b=http://x:1 has duplicate url");
    check("a=http://x:1,a=http://x:1", "initial cluster a=http://x:1,a=http://x:1 has duplicate url");
    check("a", "URL scheme must be http, https, unix, or unixs: ");
    let cluster = InitialCluster::parse("a=http://a:1,a=http://a:2,b=http://b:1", "t").unwrap();
    let check = |name: &str, advertised: &[&str], expected: &str| {
        let advertised: Vec<_> = advertised.iter().map(|url| url.to_string()).collect();
        let found = cluster.check_advertised(name, &advertised).err();
        assert_eq!(found.map_or(String::new(), |error| error.to_string()), expected);
    };
    check("a", &["http://a:2", "http://a:1"], "");
    check("c", &[], "couldn't find local name \"c\" in the initial cluster configuration");
    check(
        "a",
        &["http://a:1"],
        "--initial-cluster has a=http://a:2 but missing from --initial-advertise-peer-urls=http://a:1",
    );
    check(
        "b",
        &["http://b:1", "http://b:2"],
        "--initial-advertise-peer-urls has http://b:2 but missing from --initial-cluster=b=http://b:1",
    );
}

#[test]
fn a_joining_member_finds_itself_by_its_urls() {
    let cluster = InitialCluster::parse("a=http://a:1,b=http://b:1,b=http://b:2", "t").unwrap();
    let there = |id: u64, urls: &[&str]| Member {
        id: MemberId(id),
        peer_urls: urls.iter().map(|url| url.to_string()).collect(),
        ..Member::default()
    };
    let existing = [there(1, &["http://a:1"]), there(2, &["http://b:2", "http://b:1"])];
    assert_eq!(cluster.match_existing("b", &existing), Ok(MemberId(2)));
    let check = |existing: &[Member], end: &str| {
        let error = cluster.match_existing("b", existing).unwrap_err().to_string();
        assert!(error.ends_with(end), "{error}");
    };
    check(&existing[..1], "member count is unequal");
    check(
        &[there(1, &["http://a:1"]), there(3, &["http://c:1"])],
        "PeerURLs: no match found for existing member (3, [\"http://c:1\"])",
    );
    check(
        &[there(1, &["http://a:1"]), there(2, &["http://a:1"])],
        "no existing member has the URLs of \"b\"",
    );
}
