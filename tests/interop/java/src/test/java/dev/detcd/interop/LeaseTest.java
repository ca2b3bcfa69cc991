package dev.detcd.interop;

import static dev.detcd.interop.Cluster.await;
import static dev.detcd.interop.Cluster.bytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.etcd.jetcd.Lease;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.support.Observers;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** Leases: granted, renewed, revoked, expired. */
class LeaseTest extends Connected {
    private static final LeaseOption KEYS = LeaseOption.builder().withAttachedKeys().build();

    private final Lease lease = client.getLeaseClient();

    @Test
    void grantAndRevoke() throws Exception {
        var granted = await(lease.grant(60));
        assertEquals(60, granted.getTTL());
        long id = granted.getID();
        await(kv.put(bytes("lease/a"), bytes("1"), PutOption.builder().withLeaseId(id).build()));
        assertEquals(id, await(kv.get(bytes("lease/a"))).getKvs().get(0).getLease());

        var lives = await(lease.timeToLive(id, KEYS));
        assertEquals(60, lives.getGrantedTTL());
        assertTrue(lives.getTTL() > 50 && lives.getTTL() <= 60, "TTL " + lives.getTTL());
        assertEquals("[lease/a]", lives.getKeys().toString());
        assertEquals(60, await(lease.keepAliveOnce(id)).getTTL());

        await(lease.revoke(id));
        assertEquals(0, await(kv.get(bytes("lease/a"))).getCount());
        assertEquals(-1, await(lease.timeToLive(id, KEYS)).getTTL());
        assertEquals("etcdserver: requested lease not found", Cluster.error(lease.revoke(id)));
    }

    @Test
    void keepAliveThenExpiry() throws Exception {
        long id = await(lease.grant(2)).getID();
        var events = new Events();
        try (var watcher = client.getWatchClient().watch(bytes("lease/kept"), events)) {
            await(kv.put(bytes("lease/kept"), bytes("1"), PutOption.builder().withLeaseId(id).build()));
            assertEquals("PUT lease/kept=1", Events.text(events.next()));
            var renewals = new LinkedBlockingQueue<LeaseKeepAliveResponse>();
            try (var keeper = lease.keepAlive(id, Observers.observer(renewals::add))) {
                // Six renewals, each a third of the time to live after the one before, are four seconds.
                for (int i = 0; i < 6; i++) {
                    var renewal = renewals.poll(Cluster.PATIENCE, TimeUnit.SECONDS);
                    assertNotNull(renewal);
                    assertEquals(id, renewal.getID());
                    assertEquals(2, renewal.getTTL());
                }
                assertEquals(0, events.waiting());
                assertEquals(1, await(kv.get(bytes("lease/kept"))).getCount());
            }
            // Nobody renews it any more.
            assertEquals("DELETE lease/kept=", Events.text(events.next()));
        }
        assertEquals(-1, await(lease.timeToLive(id, KEYS)).getTTL());
    }
}
