//! Streams of messages: order, batches, loss, and peers that come, go, move and stall.

use super::*;
use crate::proto::detcdpb::lease_call::Kind;

#[test]
fn two_members_exchange_in_order() {
    check(async {
        let (mut one, mut two) = (Node::start(1).await, Node::start(2).await);
        one.knows(&[&one, &two]);
        two.knows(&[&one, &two]);
        for first in (0..1000).step_by(50) {
            let batch = |to| (first..first + 50).map(|number| numbered(to, number, 100)).collect();
            one.transport.send(batch(two.id));
            two.transport.send(batch(one.id));
            rt::yield_now().await;
        }
        let expected: Vec<u64> = (0..1000).collect();
        assert_eq!(one.numbers(two.id, 1000).await, expected);
        assert_eq!(two.numbers(one.id, 1000).await, expected);
        assert_eq!(one.activity_of(two.id).lost_messages, 0);
    });
}

#[test]
fn three_members_hear_what_is_for_them() {
    check(async {
        let mut nodes = [Node::start(1).await, Node::start(2).await, Node::start(3).await];
        let all: Vec<&Node> = nodes.iter().collect();
        nodes.iter().for_each(|node| node.knows(&all));
        // The number of a message names its sender and receiver; receivers alternate in the batch.
        for from in 1..=3 {
            let others = [1, 2, 3].into_iter().filter(|to| *to != from);
            let messages = others.cycle().take(20).map(|to| numbered(MemberId(to), 10 * from + to, 10));
            nodes[from as usize - 1].transport.send(messages.collect());
        }
        for node in &mut nodes {
            let mut heard = BTreeMap::new();
            while heard.values().sum::<usize>() < 20 {
                let (from, messages) = node.messages().await;
                for message in &messages {
                    assert_eq!(number_of(message), 10 * from.0 + node.id.0);
                }
                *heard.entry(from).or_default() += messages.len();
            }
            assert_eq!(heard.into_values().collect::<Vec<_>>(), [10, 10]);
        }
    });
}

#[test]
fn what_gathered_is_one_frame() {
    check(async {
        let one = Node::start(1).await;
        let mut two = Node::deaf(config(2), 1000, Arc::new(NoSnapshots));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        // The kernel accepts, nobody answers the hello yet: messages gather.
        let peers = vec![peer(two.id, listener.local_addr().expect("an address"))];
        one.transport.set_members(peers, BTreeSet::new());
        for number in 0..500 {
            one.transport.send(vec![numbered(two.id, number, 10)]);
        }
        two.listen(listener);
        let (_, messages) = two.messages().await;
        assert_eq!(messages.iter().map(number_of).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
    });
}

#[test]
fn leases_are_asked_about_and_answered() {
    check(async {
        let (mut one, mut two) = (Node::start(1).await, Node::start(2).await);
        one.knows(&[&two]);
        two.knows(&[&one]);
        let asked = LeaseCall { id: 5, kind: Kind::TimeToLive as i32, lease: -3 };
        one.transport.lease_call(two.id, asked);
        match two.event().await {
            PeerEvent::LeaseCall { from, call } => assert_eq!((from, call), (one.id, asked)),
            event => panic!("unexpected {event:?}"),
        }
        let answered =
            LeaseAnswer { id: 5, ttl: 9, keys: vec![Bytes::from_static(b"k")], ..Default::default() };
        two.transport.lease_answer(one.id, answered.clone());
        match one.event().await {
            PeerEvent::LeaseAnswer { from, answer } => assert_eq!((from, answer), (two.id, answered)),
            event => panic!("unexpected {event:?}"),
        }
    });
}

#[test]
fn a_restarted_peer_is_found_again() {
    check(async {
        let (mut one, mut two) = (Node::start(1).await, Node::start(2).await);
        one.knows(&[&two]);
        one.connected(two.id).await;
        two.accepted = None;
        // Told once, however often dialling fails meanwhile.
        one.unreachable(two.id).await;
        rt::sleep(Duration::from_millis(50)).await;
        assert!(one.events.try_recv().is_err());
        assert_eq!(one.activity_of(two.id).connected_since, None);
        // What is sent meanwhile is lost, and said to be.
        one.transport.send(vec![numbered(two.id, 1, 10)]);
        one.unreachable(two.id).await;
        assert_eq!(one.activity_of(two.id).lost_messages, 1);

        // The port may be some other connection's for a moment.
        let listener = loop {
            if let Ok(listener) = TcpListener::bind(two.address).await {
                break listener;
            }
            rt::sleep(Duration::from_millis(1)).await;
        };
        two.listen(listener);
        while one.activity_of(two.id).connected_since.is_none() {
            rt::sleep(Duration::from_millis(1)).await;
        }
        one.transport.send(vec![numbered(two.id, 2, 10)]);
        assert_eq!(two.numbers(one.id, 1).await, [2]);
    });
}

#[test]
fn members_come_go_and_move() {
    check(async {
        let (one, mut two) = (Node::start(1).await, Node::start(2).await);
        one.knows(&[&two]);
        one.connected(two.id).await;
        let since = one.activity_of(two.id).connected_since;
        one.knows(&[&two]);
        assert_eq!(one.activity_of(two.id).connected_since, since, "nothing changed");

        two.accepted = None;
        two.listen(TcpListener::bind("127.0.0.1:0").await.expect("a port"));
        one.knows(&[&two]);
        one.transport.send(vec![numbered(two.id, 1, 10)]);
        assert_eq!(two.numbers(one.id, 1).await, [1]);

        one.knows(&[]);
        assert_eq!(one.transport.activity(), []);
        one.transport.send(vec![numbered(two.id, 2, 10)]);
        one.knows(&[&two]);
        one.transport.send(vec![numbered(two.id, 3, 10)]);
        assert_eq!(two.numbers(one.id, 1).await, [3], "2 was for nobody");
    });
}

#[test]
fn every_address_is_tried() {
    check(async {
        let (one, mut two) = (Node::start(1).await, Node::start(2).await);
        let dead = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (id, mut urls) = two.peer();
        urls.insert(0, format!("http://{}", dead.local_addr().expect("an address")));
        urls.insert(1, "https://not.spoken.here:1".to_owned());
        drop(dead);
        one.transport.set_members(vec![(id, urls)], BTreeSet::new());
        one.connected(id).await;
        one.transport.send(vec![numbered(id, 1, 10)]);
        assert_eq!(two.numbers(one.id, 1).await, [1]);
    });
}

#[test]
fn a_full_queue_drops_the_newest() {
    check(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let settings = TransportConfig { queue_bytes: 100_000, ..config(1) };
        let mut one = Node::with(settings, 1000, Arc::new(NoSnapshots)).await;
        let two = MemberId(2);
        let peers = vec![peer(two, listener.local_addr().expect("an address"))];
        one.transport.set_members(peers, BTreeSet::new());
        // No task runs in between: the queue fills before it is connected.
        for number in 0..20 {
            one.transport.send(vec![numbered(two, number, 10_000)]);
        }
        one.unreachable(two).await;
        assert_eq!(one.activity_of(two).lost_messages, 11);
        let (mut connection, _) = welcome(&listener).await;
        let mut kept = Vec::new();
        while kept.is_empty() {
            if let frame @ Frame::Message(_) = connection.next().await.expect("a frame") {
                let frame: crate::proto::detcdpb::PeerFrame = frame.decode().expect("messages");
                kept = frame.raft.iter().map(number_of).collect();
            }
        }
        assert_eq!(kept, (0..9).collect::<Vec<_>>());
        assert!(one.events.try_recv().is_err(), "told once");
    });
}

#[test]
fn a_peer_that_does_not_answer_is_left() {
    check(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let settings = TransportConfig { silence_timeout: Duration::from_millis(60), ..config(1) };
        let mut one = Node::with(settings, 1000, Arc::new(NoSnapshots)).await;
        let peers = vec![peer(MemberId(2), listener.local_addr().expect("an address"))];
        one.transport.set_members(peers, BTreeSet::new());
        // Open, and as silent as after a loss of power.
        let _silent = welcome(&listener).await;
        one.unreachable(MemberId(2)).await;
        let (_, hello) = welcome(&listener).await;
        assert_eq!(hello, super::hello(1, MemberId(2), Purpose::Messages));
    });
}

#[test]
fn a_slow_reader_makes_the_sender_wait() {
    check(async {
        const COUNT: u64 = 128;
        const SIZE: usize = 256 * 1024;
        let settings = TransportConfig { queue_bytes: 64 << 20, ..config(1) };
        let one = Node::with(settings, 10, Arc::new(NoSnapshots)).await;
        let mut two = Node::with(config(2), 1, Arc::new(NoSnapshots)).await;
        one.knows(&[&two]);
        one.transport.send((0..COUNT).map(|number| numbered(two.id, number, SIZE)).collect());
        // Until nothing moves: the event queue and the sockets' buffers are full.
        let mut sent = 0;
        loop {
            rt::sleep(Duration::from_millis(100)).await;
            let now = one.activity_of(two.id).sent_bytes;
            if now == sent && now > 0 {
                break;
            }
            sent = now;
        }
        assert!(sent < COUNT * SIZE as u64, "all of {sent} bytes went somewhere");
        let expected: Vec<u64> = (0..COUNT).collect();
        assert_eq!(two.numbers(one.id, COUNT as usize).await, expected);
        assert_eq!(one.activity_of(two.id).lost_messages, 0);
    });
}
