//! The way of clients to a member in lite runs: its services, called in process, with a latency each way.
//!
//! A call runs on the member's node, so that it dies and stands still with the member. Answers of a run
//! that has ended do not arrive.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use detcd::rt::{self, JoinHandle};
use rand::Rng;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::World;
use crate::history::MemberNumber;

/// A client's way to one member.
#[derive(Clone)]
pub struct DirectChannel {
    world: World,
    member: MemberNumber,
}

impl DirectChannel {
    /// The way to `member` in `world`.
    pub fn new(world: World, member: MemberNumber) -> Self {
        Self { world, member }
    }

    async fn send(self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let (there, back) = self.world.client_latency();
        rt::sleep(there).await;
        self.wait_until_visible().await;
        let Some((run, node, services)) = self.world.serving(self.member) else {
            return Err(Status::unavailable(format!("m{}: connection refused", self.member)));
        };
        let call = Cancelled(node.spawn(async move { services.call(request).await }));
        let lost = || Status::unavailable(format!("m{}: connection lost", self.member));
        let answer = call.await.ok_or_else(lost)?;
        rt::sleep(back).await;
        self.wait_until_visible().await;
        if self.world.run_of(self.member) != Some(run) {
            return Err(lost());
        }
        match answer {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }

    /// Nothing passes between the client and a member that is hidden from it.
    async fn wait_until_visible(&self) {
        while self.world.is_hidden(self.member) {
            rt::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Service<http::Request<Body>> for DirectChannel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

/// A task that ends when nobody waits for it any more, as a call does whose client goes away.
struct Cancelled<T>(JoinHandle<T>);

impl<T> Future for Cancelled<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

impl<T> Drop for Cancelled<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl World {
    fn client_latency(&self) -> (Duration, Duration) {
        let mut random = self.inner.client_random.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut draw = || Duration::from_micros(random.random_range(1000..=3000));
        (draw(), draw())
    }
}
