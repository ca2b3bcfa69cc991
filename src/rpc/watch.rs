//! `etcdserverpb.Watch`: one stream of a client, any number of watchers.

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::Rpc;
use super::admit::{Serves, requires_leader};
use super::status::status;
use crate::mailbox::{WatchResponses, WatchSession};
use crate::member::WatchCommand;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::watch_server::Watch;
use crate::proto::etcdserverpb::{WatchRequest, WatchResponse};
use crate::rt;
use crate::types::RequestError;

#[tonic::async_trait]
impl Watch for Rpc {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let lost = requires_leader(request.metadata()).then(|| self.leader_lost(request.metadata()));
        let (session, responses) = self.mailbox.open_watch().await.map_err(status)?;
        let refused = listen(session, request.into_inner()).into_stream();
        let refused = refused.filter_map(|heard| async { heard.err().map(Err) });
        // Both halves live in the connection's task: what the client says is passed on whenever the
        // stream is polled, and everything ends with it.
        let events = stream::select(refused, responses_until_stopped(responses));
        let Some(lost) = lost else { return Ok(Response::new(end_after_error(events).boxed())) };
        let lost = lost.into_stream().map(Err);
        Ok(Response::new(end_after_error(stream::select(lost, events)).boxed()))
    }
}

/// Passes on what the client says, until it half-closes: watchers stay after that.
///
/// # Errors
/// For a message that cannot be read, after which there is no telling what the client wants.
async fn listen(session: WatchSession, mut requests: Streaming<WatchRequest>) -> Result<(), Status> {
    while let Some(request) = requests.next().await {
        let command = match request?.request_union {
            Some(RequestUnion::CreateRequest(create)) => WatchCommand::Create(create),
            Some(RequestUnion::CancelRequest(cancel)) => WatchCommand::Cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => WatchCommand::Progress,
            // etcd ignores a message that says nothing.
            None => continue,
        };
        if session.say(command).await.is_err() {
            // The end of the responses tells the client.
            break;
        }
    }
    Ok(())
}

/// The responses; their end is the end of this member.
fn responses_until_stopped(
    responses: WatchResponses,
) -> impl stream::Stream<Item = Result<WatchResponse, Status>> {
    let stopped = stream::once(async { Err(status(RequestError::Stopped)) });
    let in_time = responses.then(|response| async {
        rt::dawdle("watch: responses come late").await;
        Ok(response)
    });
    in_time.chain(stopped)
}

/// Passes items on up to the first error, which is the last.
fn end_after_error<T: Send + 'static>(
    items: impl stream::Stream<Item = Result<T, Status>> + Send + 'static,
) -> impl stream::Stream<Item = Result<T, Status>> + Send + 'static {
    items.boxed().scan(false, |ended, item| {
        let item = (!*ended).then_some(item);
        *ended |= matches!(item, Some(Err(_)));
        async move { item }
    })
}
