//! Errors as gRPC sends them.

use http::{HeaderMap, HeaderName};
use tonic::{Code, Status};

use super::Rpc;
use crate::types::{self, Error, LocalFault, RequestError};

/// Where the status of a call is, in headers or trailers.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The status of an error that is an answer.
pub(super) fn status(error: RequestError) -> Status {
    Status::new(code(error.code()), error.text())
}

/// The status in headers or trailers, if there is one.
pub(super) fn status_in(headers: &HeaderMap) -> Option<i32> {
    headers.get(GRPC_STATUS).map(|status| Code::from_bytes(status.as_bytes()) as i32)
}

fn code(code: types::Code) -> Code {
    Code::from_i32(code as i32)
}

impl Rpc {
    /// The status of an error of either kind. A local fault stops the member: the client hears what it
    /// would hear of any member that is going down.
    pub(super) fn failed(&self, error: Error) -> Status {
        match error {
            Error::Request(error) => status(error),
            Error::Local(fault) => self.faulted(fault),
        }
    }

    /// Reports a fault to the loop, which stops the member.
    pub(super) fn faulted(&self, fault: LocalFault) -> Status {
        self.mailbox.report_fault(fault);
        status(RequestError::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_keeps_its_code_and_text() {
        for &error in RequestError::ALL {
            let status = status(error);
            assert_eq!(status.code() as i32, error.code() as i32);
            assert_eq!(status.message(), error.text());
        }
    }
}
