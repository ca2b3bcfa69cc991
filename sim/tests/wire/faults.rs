//! Each fault of connections in turn: the cluster goes on, and clients hear what they must.

use std::time::Duration;

use detcd::rt;
use sim::connections::{Conditions, Connects, Pace};
use sim::random;
use tonic::Code;

use super::cluster::{MEMBERS, channel, client_ip, elapsed, has, in_time, ip, put, simulate, watch};

/// The members but one.
fn others(member: u8) -> Vec<u8> {
    (1..=MEMBERS).filter(|&other| other != member).collect()
}

#[test]
fn three_members_elect_and_take_writes() {
    for seed in [1, 2, 3] {
        simulate(seed, |cluster| async move {
            cluster.leader().await;
            cluster.twenty_puts("key").await;
            cluster.all_have("key19").await;
            let statistics = cluster.connections.statistics();
            assert_eq!((statistics.half_opened, statistics.held), (0, 0), "{statistics:?}");
        });
    }
}

#[test]
fn resets_cost_a_request_at_most() {
    simulate(1, |cluster| async move {
        cluster.leader().await;
        cluster.twenty_puts("before").await;
        for one in 1..=MEMBERS {
            for other in one + 1..=MEMBERS {
                assert!(cluster.connections.reset(ip(one), ip(other)) > 0, "nothing to reset");
            }
        }
        cluster.goes_on("after").await;
        cluster.twenty_puts("later").await;

        // A put that waits for a quorum hears of it.
        for other in 2..=MEMBERS {
            cluster.connections.part(ip(1), ip(other));
        }
        let asked = cluster.client.spawn(async move { put(&channel(&[1]), "lost", "x").await });
        rt::sleep(Duration::from_millis(500)).await;
        cluster.connections.reset(client_ip(), ip(1));
        let status = asked.await.expect("the client").expect_err("its connection is gone");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        cluster.connections.mend_all();
        cluster.goes_on("mended").await;
        cluster.all_have("mended").await;
    });
}

#[test]
fn a_leader_without_power_is_replaced_and_comes_back() {
    for seed in [1, 2, 3] {
        simulate(seed, |mut cluster| async move {
            let first = cluster.leader().await;
            cluster.twenty_puts("before").await;
            cluster.power_cut(first);
            let asked = cluster.client.spawn(async move { put(&channel(&[first]), "dark", "x").await });
            cluster.goes_on("without").await;
            let status = asked.await.expect("the client").expect_err("nobody answers");
            assert_eq!(status.code(), Code::Unavailable, "no connection in time: {status:?}");
            cluster.twenty_puts_at(others(first), "without").await;
            cluster.start(first);
            cluster.all_have("without").await;
            cluster.twenty_puts("after").await;
        });
    }
}

#[test]
fn half_open_connections_between_members_are_found_and_replaced() {
    simulate(1, |cluster| async move {
        let leader = cluster.leader().await;
        cluster.twenty_puts("before").await;
        for other in others(leader) {
            assert!(cluster.connections.half_open(ip(leader), ip(other)) > 0);
        }
        cluster.goes_on("after").await;
        // Each stream is given up after its silence, and dialled again.
        rt::sleep(Duration::from_secs(10)).await;
        cluster.twenty_puts("later").await;
        cluster.all_have("later19").await;
    });
}

#[test]
fn a_watch_over_a_half_open_connection_is_ended_by_keep_alive() {
    simulate(1, |cluster| async move {
        cluster.leader().await;
        let watching = cluster.client.spawn(async {
            let mut stream = watch(&channel(&[2]), "watched", 0).await.expect("a stream");
            assert!(stream.heard.message().await.expect("created").expect("created").created);
            let event = stream.heard.message().await.expect("an event").expect("an event");
            assert_eq!(event.events.len(), 1);
            // Silence, until the probes find out.
            let ended = stream.heard.message().await;
            (elapsed(), ended.expect_err("the stream ends with an error"))
        });
        rt::sleep(Duration::from_secs(1)).await;
        cluster.ask(async { put(&channel(&[2]), "watched", "1").await.expect("a put") }).await;
        rt::sleep(Duration::from_secs(1)).await;
        let begun = elapsed();
        assert!(cluster.connections.half_open(client_ip(), ip(2)) > 0);
        cluster
            .ask(async { put(&channel(&[2]), "watched", "2").await.expect("over a new connection") })
            .await;
        let (ended, status) = watching.await.expect("the client");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        let waited = (ended - begun).as_secs_f64();
        assert!((14.0..17.0).contains(&waited), "{waited} s: 10 s without a word, 6 s for the probe");
    });
}

#[test]
fn who_connects_into_a_black_hole_hears_in_time_and_refusals_at_once() {
    simulate(1, |cluster| async move {
        cluster.leader().await;
        cluster.connections.set_connects(client_ip(), ip(1), Connects::Swallowed);
        cluster.connections.set_connects(client_ip(), ip(2), Connects::Refused);
        cluster
            .ask(async {
                let begun = elapsed();
                let refused = put(&channel(&[2]), "refused", "x").await.expect_err("refused");
                assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
                assert!(elapsed() - begun < Duration::from_millis(20));
                let begun = elapsed();
                let swallowed = put(&channel(&[1]), "swallowed", "x").await.expect_err("no connection");
                assert_eq!(swallowed.code(), Code::Unavailable, "{swallowed:?}");
                let waited = (elapsed() - begun).as_millis();
                assert!((1990..2010).contains(&waited), "{waited} ms: the time to connect");
                put(&channel(&[1, 2, 3]), "third", "x").await.expect("by the third member");
            })
            .await;
        for member in [1, 2] {
            cluster.connections.restore(client_ip(), ip(member));
        }
        cluster.all_have("third").await;
    });
}

#[test]
fn a_leader_whose_words_are_held_back_is_replaced_and_its_old_words_do_no_harm() {
    for seed in [1, 2, 3] {
        simulate(seed, |cluster| async move {
            let first = cluster.leader().await;
            cluster.twenty_puts("before").await;
            // It hears everybody and nobody hears it: only the other direction of the cut differs.
            for other in others(first) {
                cluster.connections.cut(ip(first), ip(other));
            }
            let asked = cluster.client.spawn(async move { put(&channel(&[first]), "held", "x").await });
            let status = asked.await.expect("the client").expect_err("no quorum hears of it");
            assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Unavailable), "{status:?}");
            cluster.goes_on("without").await;
            cluster.connections.mend_all();
            cluster.all_have("without").await;
            cluster.twenty_puts("after").await;
        });
    }
}

#[test]
fn a_member_that_hears_nobody_does_not_disturb_and_recovers() {
    simulate(2, |cluster| async move {
        let leader = cluster.leader().await;
        let deaf = others(leader)[0];
        for other in others(deaf) {
            cluster.connections.cut(ip(other), ip(deaf));
        }
        rt::sleep(Duration::from_secs(5)).await;
        cluster.twenty_puts_at(others(deaf), "meanwhile").await;
        let status = cluster.ask(async move { has(&channel(&[deaf]), "meanwhile0").await }).await;
        let status = status.expect_err("a linearizable read without a leader");
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Unavailable), "{status:?}");
        cluster.connections.mend_all();
        cluster.all_have("meanwhile19").await;
    });
}

#[test]
fn small_pieces_small_buffers_and_slow_readers_shake_nothing_loose() {
    for seed in 0..4 {
        simulate(seed, |cluster| async move {
            let all: Vec<_> = (1..=MEMBERS).map(ip).chain([client_ip()]).collect();
            for &from in &all {
                for &to in &all {
                    cluster.connections.set_pieces(from, to, Some(13), Some(11));
                    cluster.connections.set_capacity(from, to, 64);
                }
            }
            cluster.leader().await;
            cluster.goes_on("small").await;
            cluster.connections.mend_all();
            let pace = Pace { bytes: 200, every: Duration::from_millis(20) };
            for &to in &all[..2] {
                for &from in &all {
                    cluster.connections.slow_reader(from, to, pace);
                }
            }
            cluster.goes_on("slow").await;
            cluster.connections.mend_all();
            cluster.twenty_puts("after").await;
            cluster.all_have("after19").await;
        });
    }
}

#[test]
fn a_client_that_does_not_read_loses_only_its_own_answers() {
    simulate(1, |cluster| async move {
        cluster.leader().await;
        let value = "v".repeat(200_000);
        cluster.ask(async move { put(&channel(&[3]), "large", &value).await.expect("a put") }).await;
        let pace = Pace { bytes: 10, every: Duration::from_secs(1) };
        cluster.connections.slow_reader(ip(3), client_ip(), pace);
        let status = cluster.ask(async { has(&channel(&[3]), "large").await }).await;
        assert_eq!(status.expect_err("it takes hours").code(), Code::DeadlineExceeded);
        cluster.ask(async { put(&channel(&[1, 2]), "other", "x").await.expect("by others") }).await;
        cluster.connections.mend_all();
        cluster.all_have("large").await;
    });
}

#[test]
fn members_work_over_whatever_networks_are_usually_like() {
    for seed in 0..10 {
        simulate(seed, move |cluster| async move {
            cluster.connections.set_usual(Conditions::draw(&mut random::stream(seed, "test")));
            cluster.leader().await;
            cluster.goes_on("first").await;
            cluster.twenty_puts("key").await;
        });
    }
}

#[test]
fn a_stopped_member_ends_its_connections_and_starts_anew() {
    simulate(1, |mut cluster| async move {
        let leader = cluster.leader().await;
        let ended = cluster.stop(leader).await;
        assert_eq!(ended, Some(sim::full::Ended::Shutdown));
        cluster.goes_on("without").await;
        cluster.start(leader);
        cluster.all_have("without").await;
        cluster.ask(in_time(async { Ok(()) })).await.expect("the client lives");
    });
}
