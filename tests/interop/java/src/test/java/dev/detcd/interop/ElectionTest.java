package dev.detcd.interop;

import static dev.detcd.interop.Cluster.await;
import static dev.detcd.interop.Cluster.bytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;

import io.etcd.jetcd.Election;
import io.etcd.jetcd.election.LeaderResponse;
import io.etcd.jetcd.election.NoLeaderException;
import io.etcd.jetcd.election.NotLeaderException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** The Election service. */
class ElectionTest extends Connected {
    @Test
    void oneLeaderAfterTheOther() throws Exception {
        Election election = client.getElectionClient();
        var name = bytes("election");
        assertInstanceOf(NoLeaderException.class, Cluster.failure(election.leader(name)));

        long ann = await(client.getLeaseClient().grant(30)).getID();
        long bob = await(client.getLeaseClient().grant(30)).getID();
        var leaders = new Leaders();
        election.observe(name, leaders);

        var won = await(election.campaign(name, ann, bytes("ann"))).getLeader();
        assertEquals("election", won.getName().toString());
        assertEquals("election/" + Long.toHexString(ann), won.getKey().toString());
        assertEquals(ann, won.getLease());
        assertEquals("ann", leaders.next());
        var leads = await(election.leader(name)).getKv();
        assertEquals("ann", leads.getValue().toString());
        assertEquals(won.getRevision(), leads.getCreateRevision());

        await(election.proclaim(won, bytes("ann, still")));
        assertEquals("ann, still", leaders.next());
        var waiting = election.campaign(name, bob, bytes("bob"));
        assertFalse(waiting.isDone());

        await(election.resign(won));
        var next = await(waiting).getLeader();
        assertEquals(bob, next.getLease());
        assertEquals("bob", leaders.next());
        assertInstanceOf(NotLeaderException.class, Cluster.failure(election.proclaim(won, bytes("ann, again"))));

        // A lease that ends ends the leadership.
        await(client.getLeaseClient().revoke(bob));
        assertInstanceOf(NoLeaderException.class, Cluster.failure(election.leader(name)));
    }

    private static final class Leaders implements Election.Listener {
        private final BlockingQueue<String> proposals = new LinkedBlockingQueue<>();

        @Override
        public void onNext(LeaderResponse response) {
            proposals.add(response.getKv().getValue().toString());
        }

        @Override
        public void onError(Throwable error) {
            proposals.add("error: " + error.getMessage());
        }

        @Override
        public void onCompleted() {
            proposals.add("completed");
        }

        String next() throws InterruptedException {
            String proposal = proposals.poll(Cluster.PATIENCE, TimeUnit.SECONDS);
            assertNotNull(proposal, "nobody was observed");
            return proposal;
        }
    }
}
