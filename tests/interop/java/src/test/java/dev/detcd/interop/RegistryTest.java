package dev.detcd.interop;

import static dev.detcd.interop.Cluster.await;
import static dev.detcd.interop.Cluster.bytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.detcd.interop.Registry.Instance;
import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** The steps of docs/registry.md. */
class RegistryTest extends Connected {
    /** In seconds, after which an instance that died is forgotten. */
    private static final long TTL = 5;

    /** Instances arrive, one dies, a member of the cluster as well, and one leaves. */
    @Test
    void instancesComeAndGo() throws Exception {
        var orders = new Registry(client, "orders");
        Instance early = orders.register("early", "10.0.0.9:8080", TTL);
        var heard = new Heard();
        try (var watcher = orders.follow(heard)) {
            heard.next("early arrived at 10.0.0.9:8080");
            Instance one = orders.register("one", "10.0.0.1:8080", TTL);
            heard.next("one arrived at 10.0.0.1:8080");
            Instance two = orders.register("two", "10.0.0.2:8080", TTL);
            heard.next("two arrived at 10.0.0.2:8080");
            early.leave();
            heard.next("early departed");
            assertEquals(Map.of("one", "10.0.0.1:8080", "two", "10.0.0.2:8080"), orders.instances());

            String leader = Cluster.leader();
            Cluster.kill(leader);
            try {
                two.die();
                heard.next("two departed");
                assertEquals(Map.of("one", "10.0.0.1:8080"), orders.instances());
            } finally {
                Cluster.start(leader);
            }

            one.leave();
            heard.next("one departed");
            assertEquals(Map.of(), orders.instances());
            heard.nothing();
        }
    }

    /** Whoever leads dies, and the other one takes over. */
    @Test
    void oneInstanceLeads() throws Exception {
        var registry = new Registry(client, "leading");
        Instance one = registry.register("one", "10.0.0.1:8080", TTL);
        Instance two = registry.register("two", "10.0.0.2:8080", TTL);
        var election = client.getElectionClient();
        var name = bytes("elections/leading");

        assertEquals(one.lease, await(election.campaign(name, one.lease, bytes("one"))).getLeader().getLease());
        assertEquals("one", await(election.leader(name)).getKv().getValue().toString());
        var waiting = election.campaign(name, two.lease, bytes("two"));
        inLine(name, 2);
        assertFalse(waiting.isDone());

        one.die();
        assertEquals(two.lease, await(waiting).getLeader().getLease());
        assertEquals("two", await(election.leader(name)).getKv().getValue().toString());
        two.leave();
        inLine(name, 0);
    }

    /** What a lock guards is written in a transaction that fails when the lock is lost. */
    @Test
    void oneInstanceHoldsTheLock() throws Exception {
        var registry = new Registry(client, "locking");
        Instance one = registry.register("one", "10.0.0.1:8080", TTL);
        Instance two = registry.register("two", "10.0.0.2:8080", TTL);
        var lock = client.getLockClient();
        var name = bytes("locks/report");

        ByteSequence first = await(lock.lock(name, one.lease)).getKey();
        assertTrue(write(first, "by one"));
        var waiting = lock.lock(name, two.lease);
        inLine(name, 2);
        assertFalse(waiting.isDone());
        await(lock.unlock(first));
        ByteSequence second = await(waiting).getKey();
        // The first does not know yet that it has lost the lock. It does no harm.
        assertFalse(write(first, "by one, too late"));
        assertTrue(write(second, "by two"));
        assertEquals("by two", await(client.getKVClient().get(bytes("report"))).getKvs().get(0).getValue().toString());
        one.leave();
        two.leave();
    }

    /** Writes the report if the key of the lock is there. */
    private static boolean write(ByteSequence lock, String text) throws Exception {
        return await(client.getKVClient().txn()
            .If(new Cmp(lock, Cmp.Op.GREATER, CmpTarget.createRevision(0)))
            .Then(Op.put(bytes("report"), bytes(text), PutOption.DEFAULT))
            .commit()).isSucceeded();
    }

    /** Settings are changed by whoever knows the last ones, and all instances hear of it. */
    @Test
    void settingsChangeLive() throws Exception {
        var kv = client.getKVClient();
        var limit = bytes("config/orders/limit");
        await(kv.put(limit, bytes("100")));
        var read = await(kv.get(limit));
        assertEquals("100", read.getKvs().get(0).getValue().toString());
        var events = new Events();
        var next = WatchOption.builder().withRevision(read.getHeader().getRevision() + 1).build();
        try (var watcher = client.getWatchClient().watch(limit, next, events)) {
            var unchanged = new Cmp(limit, Cmp.Op.EQUAL, CmpTarget.modRevision(read.getKvs().get(0).getModRevision()));
            var changed = await(kv.txn().If(unchanged)
                .Then(Op.put(limit, bytes("200"), PutOption.DEFAULT)).Else(Op.get(limit, GetOption.DEFAULT)).commit());
            assertTrue(changed.isSucceeded());
            var late = await(kv.txn().If(unchanged)
                .Then(Op.put(limit, bytes("300"), PutOption.DEFAULT)).Else(Op.get(limit, GetOption.DEFAULT)).commit());
            assertFalse(late.isSucceeded());
            assertEquals("200", late.getGetResponses().get(0).getKvs().get(0).getValue().toString());
            assertEquals("PUT config/orders/limit=200", Events.text(events.next()));
            await(kv.delete(limit));
            assertEquals("DELETE config/orders/limit=", Events.text(events.next()));
            assertEquals(0, events.waiting());
        }
    }

    /** Waits until so many keys stand in a line. */
    private static void inLine(ByteSequence name, long keys) throws Exception {
        var all = GetOption.builder().isPrefix(true).withCountOnly(true).build();
        long began = System.nanoTime();
        while (await(client.getKVClient().get(name.concat(bytes("/")), all)).getCount() != keys) {
            assertTrue(System.nanoTime() - began < Cluster.PATIENCE * 1_000_000_000L, keys + " keys do not come");
            Thread.sleep(10);
        }
    }

    private static final class Heard implements Registry.Listener {
        private final BlockingQueue<String> all = new LinkedBlockingQueue<>();

        @Override
        public void arrived(String name, String address) {
            all.add(name + " arrived at " + address);
        }

        @Override
        public void departed(String name) {
            all.add(name + " departed");
        }

        @Override
        public void failed(Throwable error) {
            all.add("failed: " + error);
        }

        void next(String expected) throws InterruptedException {
            String news = all.poll(Cluster.PATIENCE, TimeUnit.SECONDS);
            assertNotNull(news, expected);
            assertEquals(expected, news);
        }

        void nothing() {
            assertEquals(0, all.size(), all.toString());
        }
    }
}
