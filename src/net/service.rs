//! Who answers a request: the gRPC services or the HTTP handler of a listener.

use std::convert::Infallible;
use std::future::Future;
use std::task::{Context, Poll};

use futures::future::Either;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use tonic::body::Body;
use tower_service::Service;

/// Answers requests. Any tower service of this shape is one: generated gRPC services are.
///
/// It is cloned for each request, so a clone must be cheap, and it must always be ready: its `poll_ready`
/// is not asked.
pub trait Handler:
    Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<S> Handler for S where
    S: Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// A function as a [`Handler`].
#[derive(Clone, Copy, Debug)]
pub struct HandlerFn<F>(pub F);

impl<F, R> Service<Request<Incoming>> for HandlerFn<F>
where
    F: FnMut(Request<Incoming>) -> R,
    R: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = R;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> R {
        (self.0)(request)
    }
}

/// The two handlers of a listener. hyper calls it with every request of a connection.
#[derive(Clone, Debug)]
pub struct Services<G, H> {
    /// Answers HTTP/2 requests: in clear text, etcd takes all of them for gRPC.
    pub grpc: G,
    /// Answers those of HTTP/1: health, metrics, the JSON gateway.
    pub http: H,
}

impl<G: Handler, H: Handler> hyper::service::Service<Request<Incoming>> for Services<G, H> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<G::Future, H::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.version() == Version::HTTP_2 {
            Either::Left(self.grpc.clone().call(request))
        } else {
            Either::Right(self.http.clone().call(request))
        }
    }
}
