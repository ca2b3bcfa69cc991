package dev.detcd.interop;

import static dev.detcd.interop.Cluster.await;
import static dev.detcd.interop.Cluster.bytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.etcd.jetcd.Client;
import io.etcd.jetcd.cluster.Member;
import java.net.URI;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** Members, their state, their alarms, and who leads. */
class MaintenanceTest {
    @Test
    void members() throws Exception {
        try (Client client = Cluster.client()) {
            var members = await(client.getClusterClient().listMember()).getMembers();
            assertEquals(Set.of("m1", "m2", "m3"), new HashSet<>(members.stream().map(Member::getName).toList()));
            for (Member member : members) {
                int index = Integer.parseInt(member.getName().substring(1)) - 1;
                assertEquals(List.of(URI.create(Cluster.endpoints().get(index))), member.getClientURIs());
                assertFalse(member.isLearner());
            }
        }
    }

    @Test
    void statusAndHash() throws Exception {
        try (Client client = Cluster.client()) {
            var maintenance = client.getMaintenanceClient();
            long revision = await(client.getKVClient().put(bytes("hash/a"), bytes("1"))).getHeader().getRevision();
            Set<Long> leaders = new HashSet<>();
            Set<Integer> hashes = new HashSet<>();
            for (String endpoint : Cluster.endpoints()) {
                var status = await(maintenance.statusMember(endpoint));
                assertEquals("3.7.1", status.getVersion());
                assertEquals(List.of(), status.getErrorList());
                assertTrue(status.getDbSize() >= status.getDbSizeInUse() && status.getDbSizeInUse() > 0);
                assertTrue(status.getRaftIndex() >= status.getRaftAppliedIndex());
                leaders.add(status.getLeader());
                // A read through the member: from then on it knows the revision.
                try (Client one = Client.builder().endpoints(endpoint).build()) {
                    assertEquals(1, await(one.getKVClient().get(bytes("hash/a"))).getCount());
                }
                hashes.add(await(maintenance.hashKV(endpoint, revision)).getHash());
            }
            assertEquals(1, leaders.size(), "leaders " + leaders);
            assertEquals(1, hashes.size(), "hashes " + hashes);
            assertEquals(List.of(), await(maintenance.listAlarms()).getAlarms());
        }
    }

    @Test
    void moveLeader() throws Exception {
        String leader = Cluster.leader();
        int index = Integer.parseInt(leader.substring(1)) - 1;
        try (Client client = Cluster.clientOf(index)) {
            var members = await(client.getClusterClient().listMember()).getMembers();
            Member next = members.stream().filter(one -> !one.getName().equals(leader)).findFirst().orElseThrow();
            await(client.getMaintenanceClient().moveLeader(next.getId()));
            String endpoint = next.getClientURIs().get(0).toString();
            assertEquals(next.getId(), await(client.getMaintenanceClient().statusMember(endpoint)).getLeader());
            assertEquals(next.getName(), Cluster.leader());
        }
    }
}
