//! Opening a connection to a peer: connect, magic, hello, welcome.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::wire::{Connection, MAGIC, PeerError, put_frame, within};
use super::{HANDSHAKE_BYTES, TransportConfig};
use crate::proto::detcdpb::peer_hello::Purpose;
use crate::proto::detcdpb::{PeerHello, PeerWelcome};
use crate::rt::TcpStream;
use crate::types::MemberId;

/// Where a peer can be found.
pub(super) struct Addresses {
    urls: Vec<String>,
    /// Which of them to try next. The one that answered last stays first.
    next: AtomicUsize,
}

impl Addresses {
    pub(super) fn new(urls: Vec<String>) -> Self {
        Self { urls, next: AtomicUsize::new(0) }
    }

    /// The URLs as they were given.
    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Opens a connection to `to` at one of its addresses.
    pub(super) async fn dial(
        &self,
        config: &TransportConfig,
        to: MemberId,
        purpose: Purpose,
        patience: Duration,
    ) -> Result<Connection<TcpStream>, PeerError> {
        let turn = self.next.load(Ordering::Relaxed);
        let url = self.urls.get(turn % self.urls.len().max(1)).map_or("", String::as_str);
        let hello = PeerHello {
            cluster_id: config.cluster_id.0,
            from: config.member_id.0,
            to: to.0,
            purpose: purpose as i32,
        };
        let dialled =
            within(config.connect_timeout, "connecting", shake_hands(url, &hello, config.connect_timeout))
                .await;
        match dialled {
            Ok(mut connection) => {
                connection.set_bounds(config.max_frame_bytes, patience);
                Ok(connection)
            }
            Err(error) => {
                self.next.store(turn.wrapping_add(1), Ordering::Relaxed);
                Err(error)
            }
        }
    }
}

async fn shake_hands(
    url: &str,
    hello: &PeerHello,
    patience: Duration,
) -> Result<Connection<TcpStream>, PeerError> {
    let stream = TcpStream::connect(host_and_port(url)?).await?;
    // A batch is one write: the kernel should not wait for more.
    stream.set_nodelay(true)?;
    let mut connection = Connection::new(stream, HANDSHAKE_BYTES, patience);
    let mut opening = MAGIC.to_vec();
    put_frame(hello, &mut opening);
    connection.write(&opening).await?;
    let welcome: PeerWelcome = connection.next().await?.decode()?;
    if !welcome.error.is_empty() || welcome.removed {
        return Err(PeerError::Refused { why: welcome.error, removed: welcome.removed });
    }
    Ok(connection)
}

/// What a peer URL names. Paths mean nothing between members.
fn host_and_port(url: &str) -> Result<&str, PeerError> {
    let authority = url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or(rest));
    match authority {
        Some(authority) if authority.contains(':') => Ok(authority),
        _ => Err(PeerError::BadUrl(url.to_owned())),
    }
}

/// How long to wait before dialling again: doubling, up to a bound, and each time a random part less, so
/// that members which lost each other at once do not return at once.
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
    random: StdRng,
}

impl Backoff {
    pub(super) fn new(config: &TransportConfig, to: MemberId) -> Self {
        let (least, most) = (config.least_pause, config.most_pause);
        // Both ends of a pair, even with equal seeds, draw differently.
        let seed = config.seed ^ config.member_id.0.rotate_left(32) ^ to.0;
        Self { least, most, next: least, random: StdRng::seed_from_u64(seed) }
    }

    /// The last connection stood: begin with short pauses again.
    pub(super) fn reset(&mut self) {
        self.next = self.least;
    }

    /// The next pause: between half and all of its bound.
    pub(super) fn pause(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.most);
        bound.mul_f64(self.random.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ClusterId;

    #[test]
    fn urls() {
        let check =
            |url: &str, expected: Option<&str>| assert_eq!(host_and_port(url).ok(), expected, "{url}");
        check("http://10.0.0.1:2380", Some("10.0.0.1:2380"));
        check("http://name:2380/", Some("name:2380"));
        check("http://[::1]:2380/path", Some("[::1]:2380"));
        check("https://10.0.0.1:2380", None);
        check("10.0.0.1:2380", None);
        check("http://name", None);
        check("", None);
    }

    #[test]
    fn pauses_grow_to_their_bound_and_depend_on_the_seed_only() {
        let config = TransportConfig::new(ClusterId(1), MemberId(1), 5);
        let pauses = |to| {
            let mut backoff = Backoff::new(&config, MemberId(to));
            (0..12).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(2), pauses(2));
        assert_ne!(pauses(2), pauses(3));
        let mut bound = config.least_pause;
        for pause in pauses(2) {
            assert!(bound / 2 <= pause && pause <= bound, "{pause:?} for {bound:?}");
            bound = (bound * 2).min(config.most_pause);
        }
    }
}
