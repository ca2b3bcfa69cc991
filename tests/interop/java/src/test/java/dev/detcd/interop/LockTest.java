package dev.detcd.interop;

import static dev.detcd.interop.Cluster.await;
import static dev.detcd.interop.Cluster.bytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.options.GetOption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** The Lock service. */
class LockTest extends Connected {
    private static final GetOption PREFIX = GetOption.builder().isPrefix(true).build();

    @Test
    void oneHolderAtATime() throws Exception {
        var lock = client.getLockClient();
        var name = bytes("lock/one");
        long first = await(client.getLeaseClient().grant(30)).getID();
        long second = await(client.getLeaseClient().grant(30)).getID();

        ByteSequence held = await(lock.lock(name, first)).getKey();
        assertEquals("lock/one/" + Long.toHexString(first), held.toString());
        KeyValue owner = await(client.getKVClient().get(held)).getKvs().get(0);
        assertEquals(first, owner.getLease());

        var waiting = lock.lock(name, second);
        // Its key stands in the line, behind the holder's.
        while (await(client.getKVClient().get(name, PREFIX)).getCount() < 2) {
            Thread.sleep(10);
        }
        assertFalse(waiting.isDone());
        await(lock.unlock(held));
        assertEquals("lock/one/" + Long.toHexString(second), await(waiting).getKey().toString());

        // A lease that ends frees its lock.
        var third = lock.lock(name, first);
        await(client.getLeaseClient().revoke(second));
        await(third);
        await(client.getLeaseClient().revoke(first));
        assertEquals(0, await(client.getKVClient().get(name, PREFIX)).getCount());
    }

    /** Four clients add to a number without transactions: only the lock keeps their additions. */
    @Test
    void additionsUnderALock() throws Exception {
        final int workers = 4;
        final int rounds = 5;
        var number = bytes("lock/number");
        await(client.getKVClient().put(number, bytes("0")));
        var pool = Executors.newFixedThreadPool(workers);
        try {
            List<Future<Void>> all = new ArrayList<>();
            for (int worker = 0; worker < workers; worker++) {
                int member = worker % Cluster.endpoints().size();
                Callable<Void> work = () -> {
                    try (Client own = Cluster.clientOf(member)) {
                        long lease = await(own.getLeaseClient().grant(30)).getID();
                        for (int round = 0; round < rounds; round++) {
                            var key = await(own.getLockClient().lock(bytes("lock/adding"), lease)).getKey();
                            String now = await(own.getKVClient().get(number)).getKvs().get(0).getValue().toString();
                            await(own.getKVClient().put(number, bytes("" + (Integer.parseInt(now) + 1))));
                            await(own.getLockClient().unlock(key));
                        }
                    }
                    return null;
                };
                all.add(pool.submit(work));
            }
            for (var one : all) {
                one.get(2 * Cluster.PATIENCE, TimeUnit.SECONDS);
            }
        } finally {
            pool.shutdownNow();
        }
        var sum = await(client.getKVClient().get(number)).getKvs().get(0).getValue().toString();
        assertEquals("" + workers * rounds, sum);
    }

    @Test
    void withoutALease() throws Exception {
        var lock = client.getLockClient().lock(bytes("lock/lost"), 7);
        assertEquals("etcdserver: requested lease not found", Cluster.error(lock));
    }
}
