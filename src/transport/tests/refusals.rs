//! Callers that are turned away, and connections that break the rules.

use super::*;
use crate::proto::detcdpb::PeerFrame;

#[test]
fn wrong_callers_are_refused() {
    check(async {
        let node = Node::start(0xab).await;
        node.transport.set_members(Vec::new(), BTreeSet::from([MemberId(9)]));
        let good = hello(1, node.id, Purpose::Messages);
        let cases = [
            (PeerHello { cluster_id: 2, ..good }, "this is cluster c1, the caller belongs to 2", false),
            // Another cluster has no say in who is removed here.
            (
                PeerHello { cluster_id: 2, from: 9, ..good },
                "this is cluster c1, the caller belongs to 2",
                false,
            ),
            (PeerHello { to: 0xcd, ..good }, "this is member ab, the caller looks for cd", false),
            (PeerHello { from: 0xab, ..good }, "ab cannot be the caller", false),
            (PeerHello { from: 0, ..good }, "0 cannot be the caller", false),
            (PeerHello { from: 9, ..good }, "member 9 was removed from the cluster", true),
            (PeerHello { purpose: 7, ..good }, "unknown purpose 7", false),
        ];
        for (hello, error, removed) in cases {
            let (mut connection, welcome) = call(node.address, hello).await;
            assert_eq!(welcome, PeerWelcome { error: error.to_owned(), removed });
            assert!(matches!(connection.next().await, Err(PeerError::Closed)));
        }
        let (_, welcome) = call(node.address, good).await;
        assert_eq!(welcome, PeerWelcome::default());
    });
}

#[test]
fn a_broken_frame_ends_the_connection() {
    check(async {
        let mut node = Node::start(2).await;
        let oversize = (config(2).max_frame_bytes as u32 + 1).to_be_bytes().to_vec();
        let garbage = [&[0, 0, 0, 3][..], b"\xff\xff\xff"].concat();
        for bytes in [oversize, garbage] {
            let (mut connection, _) = call(node.address, hello(1, node.id, Purpose::Messages)).await;
            let frame = PeerFrame { raft: vec![Bytes::from_static(b"before")], ..Default::default() };
            connection.send(&frame).await.expect("written");
            connection.write(&bytes).await.expect("written");
            assert_eq!(node.messages().await.1, ["before"]);
            assert!(connection.next().await.is_err());
        }
        assert!(node.events.try_recv().is_err());
    });
}

#[test]
fn a_stranger_gets_no_large_buffer() {
    check(async {
        let node = Node::start(2).await;
        let stream = TcpStream::connect(node.address).await.expect("connected");
        let mut connection = Connection::new(stream, 1000, Duration::from_secs(5));
        connection.write(MAGIC).await.expect("written");
        connection.write(&(HANDSHAKE_BYTES as u32 + 1).to_be_bytes()).await.expect("written");
        assert!(matches!(connection.next().await, Err(PeerError::Closed)));
    });
}

#[test]
fn a_silent_caller_is_left() {
    check(async {
        let settings = TransportConfig {
            connect_timeout: Duration::from_millis(150),
            silence_timeout: Duration::from_millis(150),
            ..config(2)
        };
        let node = Node::with(settings, 10, Arc::new(NoSnapshots)).await;
        // Before the hello.
        let stream = TcpStream::connect(node.address).await.expect("connected");
        let mut connection = Connection::new(stream, 1000, Duration::from_secs(5));
        connection.write(MAGIC).await.expect("written");
        assert!(matches!(connection.next().await, Err(PeerError::Closed)));
        // Behind it. Pings are signs of life.
        let (mut connection, _) = call(node.address, hello(1, node.id, Purpose::Messages)).await;
        for _ in 0..8 {
            rt::sleep(Duration::from_millis(25)).await;
            connection.write(&wire::PING).await.expect("written");
            assert_eq!(connection.next().await.expect("an answer"), Frame::Ping);
        }
        assert!(matches!(connection.next().await, Err(PeerError::Closed)));
    });
}

#[test]
fn a_removed_member_hears_of_it() {
    check(async {
        let (mut one, mut two) = (Node::start(1).await, Node::start(2).await);
        one.knows(&[&two]);
        one.connected(two.id).await;
        one.transport.send(vec![numbered(two.id, 1, 10)]);
        assert_eq!(two.numbers(one.id, 1).await, [1]);
        two.transport.set_members(Vec::new(), BTreeSet::from([one.id]));
        one.transport.send(vec![numbered(two.id, 2, 10)]);
        one.unreachable(two.id).await;
        match one.event().await {
            PeerEvent::Removed => {}
            event => panic!("unexpected {event:?}"),
        }
        assert!(two.events.try_recv().is_err(), "nothing of a removed member arrives");
    });
}
