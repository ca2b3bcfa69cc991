use detcd::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use detcd::proto::etcdserverpb::request_op::Request;
use detcd::types::RequestId;

use super::*;

mod differential;
mod rules;

/// A model, and the log that it was fed.
struct Fed {
    model: Model,
}

impl Fed {
    fn new() -> Self {
        Self { model: Model::new(Settings::default()) }
    }

    fn apply(&mut self, command: Command) -> Applied {
        let index = self.model.last_index() + 1;
        let data = apply::encode(RequestId(index), command);
        self.model.apply(index, &data).unwrap().clone()
    }
}

fn put_request(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Command {
    Command::Put(put_request(key, value))
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn version_is(key: &str, version: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Version as i32,
        key: bytes(key),
        target_union: Some(TargetUnion::Version(version)),
        ..Default::default()
    }
}
