"""Python's `etcd3` 0.12.0 on three members, one of which is killed and started again."""

import itertools
import queue
import threading
import time
import unittest

import etcd3
import grpc

import interop
from interop import PATIENCE

# What a client raises that does not reach its member, or whose member has no leader.
UNREACHABLE = (etcd3.exceptions.ConnectionFailedError, etcd3.exceptions.ConnectionTimeoutError)


def connect(name):
    """A client of one member: this library knows no second endpoint.

    It is not closed: the thread of its watches would end with a trace of the stack.
    """
    host, port = interop.address(name)
    return etcd3.client(host, port, timeout=PATIENCE, grpc_options=interop.CHANNEL.items())


def take(events, count):
    """The next events of a watch. It fails, and does not hang, when they do not come."""
    taken = queue.Queue()

    def pump():
        try:
            for event in itertools.islice(events, count):
                taken.put(event)
        except Exception as failure:  # raised where it is waited for
            taken.put(failure)

    threading.Thread(target=pump, daemon=True).start()
    found = []
    while len(found) < count:
        try:
            event = taken.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"{len(found)} of {count} events came") from None
        if isinstance(event, Exception):
            raise event
        found.append(event)
    return found


def seen(event):
    """An event in short."""
    kind = {etcd3.events.PutEvent: "put", etcd3.events.DeleteEvent: "delete"}[type(event)]
    return kind, event.key.decode(), event.value.decode()


class Etcd3(unittest.TestCase):
    def setUp(self):
        self.client = connect("m3")
        self.prefix = self.id().rpartition(".")[2] + "/"

    def key(self, name):
        return self.prefix + name

    def test_put_get_delete(self):
        key = self.key("a")
        self.assertEqual(self.client.get(key), (None, None))
        first = self.client.put(key, "one").header.revision
        second = self.client.put(key, b"\x00\xff", prev_kv=True)
        self.assertEqual(second.prev_kv.value, b"one")
        self.assertEqual(second.header.revision, first + 1)

        value, about = self.client.get(key)
        self.assertEqual(value, b"\x00\xff")
        self.assertEqual(about.key, key.encode())
        self.assertEqual((about.create_revision, about.mod_revision, about.version), (first, first + 1, 2))
        self.assertEqual(about.lease_id, 0)
        self.assertEqual(self.client.get(key, serializable=True)[0], b"\x00\xff")

        gone = self.client.delete(key, prev_kv=True, return_response=True)
        self.assertEqual((gone.deleted, gone.prev_kvs[0].value), (1, b"\x00\xff"))
        self.assertFalse(self.client.delete(key))
        self.assertEqual(self.client.get(key), (None, None))

    def test_prefix_and_range(self):
        for name, value in (("a", "3"), ("b", "1"), ("c", "2")):
            self.client.put(self.key(name), value)

        def listed(found):
            return [(about.key.decode()[len(self.prefix):], value.decode()) for value, about in found]

        client, prefix = self.client, self.prefix
        self.assertEqual(listed(client.get_prefix(prefix)), [("a", "3"), ("b", "1"), ("c", "2")])
        descending = client.get_prefix(prefix, sort_order="descend")
        self.assertEqual(listed(descending), [("c", "2"), ("b", "1"), ("a", "3")])
        by_value = client.get_prefix(prefix, sort_order="ascend", sort_target="value")
        self.assertEqual(listed(by_value), [("b", "1"), ("c", "2"), ("a", "3")])
        keys = client.get_prefix(prefix, keys_only=True)
        self.assertEqual(listed(keys), [("a", ""), ("b", ""), ("c", "")])
        half = client.get_range(self.key("a"), self.key("c"))
        self.assertEqual(listed(half), [("a", "3"), ("b", "1")])
        everything = {about.key.decode(): value for value, about in client.get_all()}
        self.assertEqual(everything[self.key("c")], b"2")

        self.assertEqual(client.delete_prefix(prefix).deleted, 3)
        self.assertEqual(listed(client.get_prefix(prefix)), [])

    def test_conditional_writes(self):
        key = self.key("a")
        self.assertTrue(self.client.put_if_not_exists(key, "1"))
        self.assertFalse(self.client.put_if_not_exists(key, "2"))
        self.assertFalse(self.client.replace(key, "2", "3"))
        self.assertTrue(self.client.replace(key, "1", "3"))
        self.assertEqual(self.client.get(key)[0], b"3")

    def test_transactions(self):
        client, at, key, other = self.client, self.client.transactions, self.key("a"), self.key("b")
        revision = client.put(key, "1").header.revision
        succeeded, answers = client.transaction(
            compare=[
                at.value(key) == "1",
                at.value(key) != "2",
                at.version(key) == 1,
                at.create(key) == revision,
                at.mod(key) < revision + 1,
                at.version(other) == 0,
            ],
            success=[
                at.put(other, "2"),
                at.get(other),
                at.txn(
                    # What it compares with is the state before the whole transaction.
                    compare=[at.value(key) == "1", at.version(other) == 0],
                    success=[at.delete(key, prev_kv=True)],
                    failure=[at.put(key, "never")],
                ),
            ],
            failure=[at.put(key, "never")],
        )
        self.assertTrue(succeeded)
        self.assertEqual(answers[0].response_put.header.revision, revision + 1)
        self.assertEqual([(value, about.mod_revision) for value, about in answers[1]], [(b"2", revision + 1)])
        nested = answers[2].response_txn
        self.assertTrue(nested.succeeded)
        self.assertEqual(nested.responses[0].response_delete_range.prev_kvs[0].value, b"1")

        succeeded, answers = client.transaction(
            compare=[at.version(key) > 0], success=[], failure=[at.get(key), at.get(other)]
        )
        self.assertFalse(succeeded)
        self.assertEqual(answers[0], [])
        self.assertEqual(answers[1][0][0], b"2")

    def test_lease(self):
        lease = self.client.lease(2)
        self.assertEqual(lease.ttl, 2)
        self.client.put(self.key("a"), "1", lease=lease)
        self.assertEqual(self.client.get(self.key("a"))[1].lease_id, lease.id)
        self.assertEqual((lease.granted_ttl, list(lease.keys)), (2, [self.key("a").encode()]))

        # Kept alive for longer than it lives, through other members as well.
        events, cancel = self.client.watch(self.key("a"))
        self.addCleanup(cancel)
        clients = itertools.cycle([self.client, connect("m1"), connect("m2")])
        for _ in range(7):
            (answer,) = next(clients).refresh_lease(lease.id)
            self.assertEqual((answer.ID, answer.TTL), (lease.id, 2))
            time.sleep(0.5)
        self.assertEqual(self.client.get(self.key("a"))[0], b"1")

        # Left alone it ends, and takes its key along.
        self.assertEqual([seen(event) for event in take(events, 1)], [("delete", self.key("a"), "")])
        self.assertEqual(lease.remaining_ttl, -1)
        (answer,) = lease.refresh()
        self.assertEqual(answer.TTL, 0)

        revoked = self.client.lease(60)
        self.client.put(self.key("b"), "1", lease=revoked.id)
        self.assertIn(revoked.remaining_ttl, (58, 59, 60))
        revoked.revoke()
        self.assertEqual(self.client.get(self.key("b")), (None, None))

    def test_watch(self):
        client, key = self.client, self.key("a")
        first = client.put(key, "1").header.revision
        events, cancel = client.watch_prefix(self.prefix, start_revision=first, prev_kv=True)
        client.put(key, "2")
        client.delete(key)
        found = take(events, 3)
        self.assertEqual(
            [seen(event) for event in found], [("put", key, "1"), ("put", key, "2"), ("delete", key, "")]
        )
        self.assertEqual([event.mod_revision for event in found], [first, first + 1, first + 2])
        self.assertEqual([event.prev_value for event in found], [b"", b"1", b"2"])
        cancel()

        self.assertEqual(client.watch_once(key, timeout=PATIENCE, start_revision=first).value, b"1")
        with self.assertRaises(etcd3.exceptions.WatchTimedOut):
            client.watch_once(key, timeout=0.2)

    def test_watch_of_compacted_history(self):
        first = self.client.put(self.key("a"), "1").header.revision
        last = self.client.put(self.key("a"), "2").header.revision
        self.client.compact(last, physical=True)
        events, cancel = self.client.watch(self.key("a"), start_revision=first)
        self.addCleanup(cancel)
        with self.assertRaises(etcd3.exceptions.RevisionCompactedError) as raised:
            take(events, 1)
        self.assertEqual(raised.exception.compacted_revision, last)

    def test_lock(self):
        name = self.key("lock")
        other = connect("m1").lock(name, ttl=60)
        with self.client.lock(name, ttl=60) as lock:
            self.assertTrue(lock.is_acquired())
            self.assertEqual(lock.refresh()[0].TTL, 60)
            self.assertFalse(other.acquire(timeout=0.3))
            self.assertFalse(other.is_acquired())
            won = []
            waiter = threading.Thread(target=lambda: won.append(other.acquire(timeout=PATIENCE)))
            waiter.start()
        waiter.join()
        self.assertEqual(won, [True])
        self.assertTrue(other.is_acquired())
        self.assertTrue(other.release())
        self.assertFalse(other.release())

        # A holder that is gone loses the lock with its lease.
        self.assertTrue(self.client.lock(name, ttl=1).acquire())
        self.assertTrue(other.acquire(timeout=PATIENCE))

    def test_members_and_maintenance(self):
        members = {member.name: list(member.client_urls) for member in self.client.members}
        self.assertEqual(members, {name: [url] for name, url in zip(interop.NAMES, interop.ENDPOINTS)})
        status = self.client.status()
        self.assertEqual(status.version, "3.7.1")
        self.assertEqual(status.leader.name, interop.leader())
        self.assertGreater(status.db_size, 0)

        (raised,) = self.client.create_alarm(member_id=42)
        self.assertEqual(raised.member_id, 42)
        with self.assertRaises(grpc.RpcError) as full:
            self.client.put(self.key("a"), "1")
        self.assertEqual(full.exception.details(), "etcdserver: mvcc: database space exceeded")
        self.assertEqual([alarm.member_id for alarm in self.client.list_alarms()], [42])
        self.assertEqual([alarm.member_id for alarm in self.client.disarm_alarm(42)], [42])
        self.assertEqual(list(self.client.list_alarms()), [])
        self.client.put(self.key("a"), "1")

    def test_errors(self):
        with self.assertRaises(grpc.RpcError) as raised:
            self.client.put(self.key("a"), "1", lease=123)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)
        self.assertEqual(raised.exception.details(), "etcdserver: requested lease not found")
        lease = self.client.lease(60)
        with self.assertRaises(etcd3.exceptions.PreconditionFailedError):
            self.client.lease(60, lease_id=lease.id)
        with self.assertRaises(grpc.RpcError) as raised:
            self.client.put("", "1")
        self.assertEqual(raised.exception.details(), "etcdserver: key is not provided")

    def test_member_restart(self):
        """The leader is killed under writes; a watch on it goes on where it ended, without a gap."""
        victim = interop.leader()
        watching = connect(victim)
        writers = itertools.cycle([connect(name) for name in interop.NAMES])
        writer = next(writers)

        def write(number):
            nonlocal writer
            deadline = interop.Deadline()
            while True:
                try:
                    return writer.put(self.key(f"{number:02}"), str(number)).header.revision
                except UNREACHABLE as failure:
                    deadline.check(failure)
                    writer = next(writers)

        lease = self.client.lease(60) if victim != "m3" else connect("m1").lease(60)
        events, _ = watching.watch_prefix(self.prefix)
        for number in range(10):
            write(number)
        seen_first = take(events, 10)
        interop.kill(victim)
        with self.assertRaises(etcd3.exceptions.ConnectionFailedError):
            take(events, 1)
        for number in range(10, 20):
            write(number)
        interop.start(victim)
        for number in range(20, 30):
            write(number)

        deadline = interop.Deadline()
        last = seen_first[-1].mod_revision
        while True:
            try:
                events, cancel = watching.watch_prefix(self.prefix, start_revision=last + 1)
                break
            except UNREACHABLE as failure:
                deadline.check(failure)
        self.addCleanup(cancel)
        # A write whose answer was lost was made again: its key may be seen twice.
        wanted = {f"{number:02}": str(number) for number in range(30)}
        found = [(event.mod_revision, seen(event)) for event in seen_first]
        while found[-1][1][2] != "29":
            (event,) = take(events, 1)
            found.append((event.mod_revision, seen(event)))
        revisions = [revision for revision, _ in found]
        self.assertEqual(revisions, sorted(set(revisions)))
        self.assertEqual({key[len(self.prefix):]: value for _, (_, key, value) in found}, wanted)
        held = {about.key.decode()[len(self.prefix):]: value.decode()
                for value, about in watching.get_prefix(self.prefix)}
        self.assertEqual(held, wanted)
        self.assertEqual(next(iter(watching.refresh_lease(lease.id))).TTL, 60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
