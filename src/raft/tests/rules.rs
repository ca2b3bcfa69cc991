//! Small rules: what start refuses, which messages are refused, what is read from a message's bytes.

use ::raft::eraftpb::{Entry, Message};
use bytes::Bytes;
use proptest::prelude::*;

use super::super::convert::point_to_raft;
use super::super::message::{marshal, outgoing, unmarshal};
use super::super::*;
use crate::types::MemberId;
use crate::types::log::*;

fn config(id: u64) -> DriverConfig {
    DriverConfig::new(MemberId(id), 1)
}

fn entry(index: u64, term: u64) -> LogEntry {
    LogEntry { index, term, kind: EntryKind::Normal, data: Bytes::from(format!("{index}/{term}")) }
}

fn log(terms: &[(u64, u64)], commit: u64, point: (u64, u64)) -> RecoveredLog {
    RecoveredLog {
        hard_state: HardState { term: 5, vote: 2, commit },
        snapshot: SnapshotPoint { index: point.0, term: point.1, voters: vec![1, 2, 3], learners: vec![] },
        entries: terms.iter().map(|&(index, term)| entry(index, term)).collect(),
    }
}

/// First and last index, term, vote and commit after a start, or the fault's text.
fn check_start(log: RecoveredLog, expected: Result<(u64, u64, u64, Option<u64>, u64), &str>) {
    let started = Driver::new(config(1), log).map(|driver| {
        let s = driver.status();
        (s.first_index, s.last_index, s.term, s.vote.map(|vote| vote.0), s.commit)
    });
    assert_eq!(started.map_err(|fault| fault.to_string()), expected.map_err(str::to_owned));
}

#[test]
fn start_accepts_whole_logs_only() {
    let entries = [(4, 3), (5, 3), (6, 5)];
    check_start(log(&entries, 5, (3, 3)), Ok((4, 6, 5, Some(2), 5)));
    check_start(log(&[], 3, (3, 3)), Ok((4, 3, 5, Some(2), 3)));
    // The hard state's commit may lag behind what was applied.
    check_start(log(&entries, 0, (5, 3)), Ok((5, 6, 5, Some(2), 5)));
    // Older than the snapshot, or of another history: a snapshot replaced it.
    check_start(log(&entries, 5, (8, 5)), Ok((9, 8, 5, Some(2), 8)));
    check_start(log(&entries, 5, (5, 4)), Ok((6, 5, 5, Some(2), 5)));
    // A write cut short between its entries and its hard state: the vote was for a lower term.
    check_start(log(&[(4, 6)], 3, (3, 3)), Ok((4, 4, 6, None, 3)));

    let lost = "entry 7 was committed but the log ends at entry 6: part of the log is lost";
    check_start(log(&entries, 7, (3, 3)), Err(lost));
    check_start(log(&[(4, 3), (6, 5)], 4, (3, 3)), Err("the log jumps from entry 4 to entry 6"));
    let gap = "the log begins at entry 4 but the state stands at entry 2: entries between are lost";
    check_start(log(&entries, 2, (2, 3)), Err(gap));
    let from_zero = "the log of a cluster with voters must start from a snapshot point above index 0";
    check_start(log(&[], 0, (0, 0)), Err(from_zero));
}

#[test]
fn start_refuses_contradictory_settings() {
    let bad: [fn(&mut DriverConfig); 4] = [
        |c| c.id = MemberId(0),
        |c| c.heartbeat_ticks = c.election_ticks,
        |c| c.max_inflight = 0,
        |c| c.max_uncommitted_bytes = c.max_message_bytes - 1,
    ];
    for change in bad {
        let mut config = config(1);
        change(&mut config);
        assert!(Driver::new(config, RecoveredLog::joining()).is_err());
    }
}

/// Ticks until member `id` stands for election in a log of `term`.
fn election_wait(seed: u64, id: u64, term: u64) -> usize {
    let mut log = log(&[], 3, (3, 1));
    log.hard_state.term = term;
    let mut driver = Driver::new(DriverConfig::new(MemberId(id), seed), log).expect("a whole log");
    let wait = (1..100).find(|_| {
        driver.tick();
        driver.status().role != Role::Follower
    });
    wait.expect("an election")
}

#[test]
fn election_waits_follow_from_seed_member_and_term() {
    let waits = |seed, id| (1..60).map(|term| election_wait(seed, id, term)).collect::<Vec<_>>();
    let one = waits(1, 1);
    assert_eq!(one, waits(1, 1));
    assert_ne!(one, waits(1, 2));
    assert_ne!(one, waits(2, 1));
    let mut all = one.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (10..20).collect::<Vec<_>>(), "all of 1 to 2 election timeouts, and no more");
}

fn message(kind: MessageKind, set: impl FnOnce(&mut Message)) -> Bytes {
    let mut message = Message { to: 1, from: 2, term: 5, ..Message::default() };
    message.set_msg_type(kind);
    set(&mut message);
    marshal(&message)
}

fn check_step(bytes: Bytes, expected: Result<(), StepError>) {
    let mut driver = Driver::new(config(1), log(&[(4, 5)], 3, (3, 3))).expect("a whole log");
    assert_eq!(driver.step(&bytes), expected);
}

/// The term was written when it was heard of; the vote comes later, and is a promise of its own.
#[test]
fn a_vote_in_a_term_that_was_known_is_written_before_it_is_given() {
    let mut driver = Driver::new(config(1), log(&[(4, 5)], 3, (3, 3))).expect("a whole log");
    let candidate = |from, last: (u64, u64)| {
        message(MessageKind::MsgRequestVote, |m| {
            (m.from, m.term) = (from, 6);
            (m.index, m.log_term) = last;
        })
    };
    let mut ask = |from, last| {
        driver.step(&candidate(from, last)).expect("a vote is asked for");
        let ready = driver.take_ready();
        let written = ready.persist.as_ref().and_then(|persist| persist.hard_state);
        let waits = ready.send_after_persist.iter().any(|message| message.to == from);
        driver.persisted(ready.number);
        (written.map(|state| (state.term, state.vote)), waits)
    };
    // It lacks an entry, so it gets no vote, but it raises the term.
    assert_eq!(ask(3, (3, 3)), (Some((6, 0)), true));
    assert_eq!(ask(2, (4, 5)), (Some((6, 2)), true));
}

#[test]
fn impossible_messages_are_refused() {
    use MessageKind::*;
    let malformed = |what| Err(StepError::Malformed(what));
    check_step(Bytes::from_static(b"\xff\xff"), Err(StepError::Undecodable));
    check_step(message(MsgHeartbeat, |_| {}), Ok(()));
    check_step(message(MsgHeartbeat, |m| m.to = 2), Err(StepError::Misaddressed { to: 2 }));
    check_step(message(MsgHeartbeat, |m| m.from = 1), malformed("no other member is the sender"));
    check_step(message(MsgHeartbeat, |m| m.commit = 9), Err(StepError::LogLost { commit: 9, last: 4 }));
    check_step(message(MsgHup, |_| {}), malformed("a kind that never travels"));
    check_step(message(MsgAppendResponse, |m| m.from = 9), Err(StepError::UnknownPeer { from: 9 }));
    let forwarded = "forwarded requests, and only they, carry no term";
    check_step(message(MsgPropose, |_| {}), malformed(forwarded));
    check_step(message(MsgHeartbeat, |m| m.term = 0), malformed(forwarded));
    check_step(message(MsgPropose, |m| m.term = 0), malformed("a proposal of nothing"));
    let proposal = message(MsgPropose, |m| {
        m.term = 0;
        m.mut_entries().push(Entry::default());
    });
    check_step(proposal, Err(StepError::ProposalDropped));
    check_step(message(MsgReadIndex, |m| m.term = 0), malformed("a read index request without its context"));
    let gap = message(MsgAppend, |m| {
        (m.index, m.log_term) = (4, 5);
        m.mut_entries().push(Entry { index: 6, term: 5, ..Entry::default() });
    });
    check_step(gap, malformed("an append whose entries are out of order"));
    check_step(message(MsgAppend, |m| m.index = 9), malformed("an append after an entry without a term"));
    check_step(message(MsgSnapshot, |_| {}), malformed("a snapshot of no place in the log"));
    check_step(message(MsgHeartbeat, |m| m.term = u64::MAX), malformed("an index or a term out of range"));
}

#[test]
fn the_head_of_a_message_is_read_without_the_rest() {
    let append = message(MessageKind::MsgAppend, |m| {
        m.mut_entries().push(Entry { index: 1, term: 5, data: Bytes::from("payload"), ..Entry::default() });
    });
    let head = MessageHead { kind: MessageKind::MsgAppend, from: MemberId(2), to: MemberId(1), term: 5 };
    assert_eq!(peek(&append), Some(head));
    assert_eq!(peek(&append[..append.len() - 3]), Some(head));
    assert_eq!(peek(b"\x08\x7f"), None);
    assert_eq!(peek(b"\xff"), None);
    assert_eq!(snapshot_point(&append), None);
}

#[test]
fn a_snapshot_message_can_be_moved_on_to_a_newer_state() {
    let point = |index| SnapshotPoint { index, term: 4, voters: vec![1, 2], learners: vec![3] };
    let bytes = message(MessageKind::MsgSnapshot, |m| {
        m.mut_snapshot().set_metadata(point_to_raft(&point(7)));
    });
    let sent = outgoing(&unmarshal(&bytes).expect("a message"));
    assert_eq!(sent.snapshot, Some(point(7)));
    let moved = with_snapshot_point(&sent, &point(9)).expect("newer");
    assert_eq!((snapshot_point(&moved.bytes), moved.snapshot), (Some(point(9)), Some(point(9))));
    assert!(with_snapshot_point(&sent, &point(6)).is_err());
}

#[test]
fn conf_changes_survive_the_log() {
    use ConfChangeKind::*;
    for kind in [AddVoter, AddLearner, Remove, Update] {
        let change = ConfChange { kind, member: MemberId(77), context: Bytes::from_static(b"c") };
        let entry = LogEntry { kind: EntryKind::ConfChange, data: change.encode(), ..entry(9, 1) };
        assert_eq!(ConfChange::decode(&entry), Ok(change));
    }
    assert!(ConfChange::decode(&entry(9, 1)).is_err());
    let broken = LogEntry { kind: EntryKind::ConfChange, data: Bytes::from_static(b"\xff"), ..entry(9, 1) };
    assert!(ConfChange::decode(&broken).is_err());
}

/// Any message from anybody, with small numbers so that it often fits.
fn any_message() -> impl Strategy<Value = Message> {
    let numbers = prop::array::uniform7(0_u64..8);
    let entries = prop::collection::vec((0_u64..8, 0_u64..8), 0..3);
    (0_i32..19, numbers, entries, any::<bool>()).prop_map(|(kind, n, entries, reject)| {
        let mut m =
            Message { to: 1, from: n[0] % 4, term: n[1], log_term: n[2], reject, ..Message::default() };
        m.set_msg_type(protobuf::ProtobufEnum::from_i32(kind).expect("a kind"));
        (m.index, m.commit, m.commit_term, m.reject_hint) = (n[3], n[4], n[5], n[6]);
        for (i, (term, shift)) in entries.into_iter().enumerate() {
            let index = n[3] + 1 + i as u64 + shift / 6;
            m.mut_entries().push(Entry { index, term, ..Entry::default() });
        }
        if kind == 7 {
            let point = SnapshotPoint { index: n[3], term: n[2], voters: vec![1, 2, 3], learners: vec![] };
            m.mut_snapshot().set_metadata(point_to_raft(&point));
        }
        m
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Messages that no correct cluster sends may break promises, but not the process.
    #[test]
    fn no_message_stops_the_process(
        messages in prop::collection::vec(any_message(), 1..30),
        lead in any::<bool>(),
    ) {
        let voters = if lead { vec![1] } else { vec![1, 2, 3] };
        let mut driver = Driver::new(config(1), RecoveredLog::bootstrap(voters)).expect("a new cluster");
        driver.campaign();
        for message in messages {
            let _ = driver.step(&marshal(&message));
            driver.tick();
            while driver.has_ready() {
                let ready = driver.take_ready();
                driver.persisted(ready.number);
                if let Some(point) = &ready.install_snapshot {
                    driver.installed_snapshot(point);
                }
                if let Some(last) = ready.committed.last() {
                    driver.applied(last.index);
                }
            }
        }
    }
}
