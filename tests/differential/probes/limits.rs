//! Beside the appendix: sizes, metadata and names that a server refuses before it looks at the request.

use bytes::Bytes;
use detcd::proto::etcdserverpb as pb;
use tonic::Request;

use super::{answer, ask_both, bytes, interval, refused};

#[test]
fn requests_have_a_largest_size() {
    ask_both(async |client| {
        let put = |size: usize| pb::PutRequest {
            key: bytes("a"),
            value: Bytes::from(vec![b'v'; size]),
            ..Default::default()
        };
        // What is measured is the entry of the log, with a few bytes around the request.
        client.try_put(put(1_572_864 - 64)).await.expect("a large put");
        let too_large = "InvalidArgument: etcdserver: request is too large";
        refused(client.try_put(put(1_572_864 - 16)).await, too_large);
        let beyond = "ResourceExhausted: grpc: received message larger than max (2200008 vs. 2097152)";
        refused(client.try_put(put(2_200_000)).await, beyond);
    });
}

#[test]
fn metadata_is_looked_at_first() {
    ask_both(async |client| {
        let mut request = Request::new(pb::RangeRequest::default());
        request.metadata_mut().insert("hasleader", "true".parse().expect("a value"));
        // There is a leader, so the request itself is what is wrong.
        refused(answer(client.kv.range(request).await), "InvalidArgument: etcdserver: key is not provided");
        let mut request = Request::new(interval("a", ""));
        request.metadata_mut().insert("client-api-version", "3.7.1".parse().expect("a value"));
        assert_eq!(answer(client.kv.range(request).await).expect("a range").count, 0);
    });
}
