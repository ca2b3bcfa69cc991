package dev.detcd.interop;

import static dev.detcd.interop.Cluster.await;
import static dev.detcd.interop.Cluster.bytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.support.Observers;
import io.grpc.Status;
import io.grpc.Status.Code;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** The leader is killed and restarted while a client writes, watches and renews a lease. */
class RestartTest {
    private static final int WRITES = 300;

    @Test
    void theLeaderDiesHalfway() throws Exception {
        try (Client client = Cluster.client()) {
            long lease = await(client.getLeaseClient().grant(10)).getID();
            var held = PutOption.builder().withLeaseId(lease).build();
            long first = await(client.getKVClient().put(bytes("restart/held"), bytes("1"), held)).getHeader().getRevision();
            var events = new Events();
            var options = WatchOption.builder().isPrefix(true).withRevision(first).build();
            try (var keeper = client.getLeaseClient().keepAlive(lease, Observers.observer(renewal -> {}));
                var watcher = client.getWatchClient().watch(bytes("restart/"), options, events)) {
                assertEquals("PUT restart/held=1", Events.text(events.next()));
                String leader = Cluster.leader();
                write(client, 0, WRITES / 3);
                Cluster.kill(leader);
                try {
                    write(client, WRITES / 3, 2 * WRITES / 3);
                } finally {
                    Cluster.start(leader);
                }
                write(client, 2 * WRITES / 3, WRITES);
                check(client, events, first);
            }
            assertTrue(await(client.getLeaseClient().timeToLive(lease, LeaseOption.DEFAULT)).getTTL() > 0);
            assertEquals(1, await(client.getKVClient().get(bytes("restart/held"))).getCount());
        }
    }

    /** Writes each number until it is acknowledged. The same value again does no harm. */
    private static void write(Client client, int from, int to) throws Exception {
        for (int number = from; number < to; number++) {
            long began = System.nanoTime();
            while (!written(client, number)) {
                assertTrue(System.nanoTime() - began < Cluster.PATIENCE * 1_000_000_000L, "no write succeeds");
            }
        }
    }

    private static boolean written(Client client, int number) throws Exception {
        try {
            await(client.getKVClient().put(key(number), bytes("value " + number)));
            return true;
        } catch (ExecutionException error) {
            // Whether it was made is open: the member was lost, or its leader was.
            assertTrue(Set.of(Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED).contains(Status.fromThrowable(error).getCode()),
                () -> "" + error.getCause());
            return false;
        }
    }

    /** Every write is there, and the watch has told each in order, nothing twice. */
    private static void check(Client client, Events events, long first) throws Exception {
        var found = await(client.getKVClient().get(bytes("restart/w"), GetOption.builder().isPrefix(true).build()));
        assertEquals(
            IntStream.range(0, WRITES).mapToObj(i -> key(i) + "=value " + i).toList(),
            found.getKvs().stream().map(kv -> kv.getKey() + "=" + kv.getValue()).toList());
        long writes = found.getKvs().stream().mapToLong(kv -> kv.getVersion()).sum();
        long revision = first;
        int number = -1;
        for (long i = 0; i < writes; i++) {
            var kv = events.next().getKeyValue();
            assertEquals(revision + 1, kv.getModRevision());
            revision = kv.getModRevision();
            // A write that was repeated is told as often as it was carried out.
            number = kv.getVersion() == 1 ? number + 1 : number;
            assertEquals(key(number), kv.getKey());
            assertEquals("value " + number, kv.getValue().toString());
        }
        assertEquals(WRITES - 1, number);
        assertEquals(0, events.waiting());
    }

    private static ByteSequence key(int number) {
        return bytes(String.format("restart/w%03d", number));
    }
}
