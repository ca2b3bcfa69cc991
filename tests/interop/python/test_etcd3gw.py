"""Python's `etcd3gw` 2.7.0, JSON over HTTP, on three members, one of which is killed and started again."""

import itertools
import queue
import threading
import time
import unittest

import etcd3gw
import requests
from etcd3gw import exceptions
from etcd3gw.utils import _encode as base64

import interop
from interop import PATIENCE

# What a client raises that does not reach its member, or whose member has no leader.
UNREACHABLE = (exceptions.ConnectionFailedError, exceptions.ConnectionTimeoutError)


def connect(name):
    """A client of one member, which asks no proxy."""
    host, port = interop.address(name)
    session = requests.Session()
    session.trust_env = False
    return etcd3gw.client(host, port, timeout=PATIENCE, session=session)


def take(events, count):
    """The next events of a watch. It fails, and does not hang, when they do not come."""
    taken = queue.Queue()

    def pump():
        for event in itertools.islice(events, count):
            taken.put(event)

    threading.Thread(target=pump, daemon=True).start()
    found = []
    while len(found) < count:
        try:
            found.append(taken.get(timeout=PATIENCE))
        except queue.Empty:
            raise AssertionError(f"{len(found)} of {count} events came: {found}") from None
    return found


def seen(event):
    """An event in short. What is zero in JSON is left out: a put has no type."""
    return event.get("type", "PUT"), event["kv"]["key"].decode(), event["kv"].get("value", b"").decode()


class Etcd3gw(unittest.TestCase):
    def setUp(self):
        self.client = connect("m3")
        self.prefix = self.id().rpartition(".")[2] + "/"

    def key(self, name):
        return self.prefix + name

    def put(self, name, value):
        """Writes, and gives the revision."""
        answer = self.client.post(
            self.client.get_url("/kv/put"), json={"key": base64(self.key(name)), "value": base64(value)}
        )
        return int(answer["header"]["revision"])

    def test_put_get_delete(self):
        client, key = self.client, self.key("a")
        self.assertEqual(client.get(key), [])
        first = self.put("a", "one")
        self.assertTrue(client.put(key, b"\x00\xff"))
        ((value, about),) = client.get(key, metadata=True)
        self.assertEqual((value, about["key"]), (b"\x00\xff", key.encode()))
        self.assertEqual(
            (about["create_revision"], about["mod_revision"], about["version"]), (str(first), str(first + 1), "2")
        )
        self.assertNotIn("lease", about)
        self.assertEqual(client.get(key, revision=first), [b"one"])
        self.assertEqual(client.get(key, serializable=True), [b"\x00\xff"])
        self.assertTrue(client.delete(key))
        self.assertFalse(client.delete(key))
        self.assertEqual(client.get(key), [])

    def test_prefix(self):
        for name, value in (("a", "3"), ("b", "1"), ("c", "2")):
            self.put(name, value)
        client = self.client

        def listed(**options):
            return [(about["key"].decode()[len(self.prefix):], value.decode())
                    for value, about in client.get_prefix(self.prefix, **options)]

        self.assertEqual(listed(), [("a", "3"), ("b", "1"), ("c", "2")])
        self.assertEqual(listed(sort_order="descend"), [("c", "2"), ("b", "1"), ("a", "3")])
        self.assertEqual(listed(sort_order="ascend", sort_target="value"), [("b", "1"), ("c", "2"), ("a", "3")])
        self.assertEqual(client.get(self.key("a"), range_end=self.key("c"), limit=1), [b"3"])
        self.assertIn(self.key("b").encode(), [about["key"] for _, about in client.get_all()])
        self.assertTrue(client.delete_prefix(self.prefix))
        self.assertEqual(listed(), [])

    def test_transactions(self):
        client, key = self.client, self.key("a")
        self.assertTrue(client.create(key, "1"))
        self.assertFalse(client.create(key, "2"))
        self.assertFalse(client.replace(key, "2", "3"))
        self.assertTrue(client.replace(key, "1", "3"))
        name = base64(key)
        txn = {
            "compare": [
                {"key": name, "target": "VALUE", "result": "EQUAL", "value": base64("3")},
                {"key": name, "target": "VERSION", "result": "GREATER", "version": "1"},
            ],
            "success": [
                {"request_put": {"key": name, "value": base64("4")}},
                {"request_range": {"key": name}},
            ],
            "failure": [{"request_delete_range": {"key": name}}],
        }
        answer = client.transaction(txn)
        self.assertTrue(answer["succeeded"])
        put, read = answer["responses"]
        self.assertEqual(put["response_put"]["header"]["revision"], answer["header"]["revision"])
        self.assertEqual(read["response_range"]["kvs"][0]["value"], base64("4"))
        answer = client.transaction(txn)
        self.assertNotIn("succeeded", answer)
        self.assertEqual(answer["responses"][0]["response_delete_range"]["deleted"], "1")
        self.assertEqual(client.get(key), [])

    def test_lease(self):
        client, key = self.client, self.key("a")
        lease = client.lease(2)
        self.assertTrue(client.put(key, "1", lease=lease))
        self.assertEqual(lease.keys(), [key.encode()])
        self.assertIn(lease.ttl(), (0, 1, 2))
        # Kept alive for longer than it lives, and then not.
        events, cancel = client.watch(key)
        for _ in range(7):
            self.assertEqual(lease.refresh(), 2)
            time.sleep(0.5)
        self.assertEqual(client.get(key), [b"1"])
        self.assertEqual([seen(event) for event in take(events, 1)], [("DELETE", key, "")])
        cancel()
        self.assertEqual((lease.ttl(), lease.refresh()), (-1, -1))

        revoked = client.lease(60)
        client.put(key, "1", lease=revoked)
        self.assertTrue(revoked.revoke())
        self.assertEqual(client.get(key), [])

    def test_watch(self):
        client, key = self.client, self.key("a")
        first = self.put("a", "1")
        events, cancel = client.watch_prefix(self.prefix, start_revision=first, prev_kv=True)
        self.put("a", "2")
        client.delete(key)
        found = take(events, 3)
        cancel()
        self.assertEqual([seen(event) for event in found], [("PUT", key, "1"), ("PUT", key, "2"), ("DELETE", key, "")])
        self.assertEqual([int(event["kv"]["mod_revision"]) for event in found], [first, first + 1, first + 2])
        self.assertEqual([event.get("prev_kv", {}).get("value") for event in found], [None, base64("1"), base64("2")])

        events, cancel = client.watch(key, start_revision=first, filters=["NOPUT"])
        self.assertEqual([seen(event) for event in take(events, 1)], [("DELETE", key, "")])
        cancel()
        self.assertEqual(client.watch_once(key, timeout=PATIENCE, start_revision=first)["kv"]["value"], b"1")
        with self.assertRaises(exceptions.WatchTimedOut):
            client.watch_once(key, timeout=0.2)

    def test_lock(self):
        name = self.key("lock")
        other = connect("m1").lock(name, ttl=60)
        with self.client.lock(name, ttl=60) as lock:
            self.assertTrue(lock.is_acquired())
            self.assertEqual(lock.refresh(), 60)
            self.assertFalse(other.acquire())
            self.assertFalse(other.is_acquired())
        self.assertTrue(other.acquire())
        self.assertTrue(other.release())
        self.assertFalse(other.release())

    def test_members_and_status(self):
        members = {member["name"]: member for member in self.client.members()}
        self.assertEqual(
            {name: member["clientURLs"] for name, member in members.items()},
            {name: [url] for name, url in zip(interop.NAMES, interop.ENDPOINTS)},
        )
        status = self.client.status()
        self.assertEqual((status["version"], status["leader"]), ("3.7.1", members[interop.leader()]["ID"]))

    def test_errors(self):
        with self.assertRaises(exceptions.Etcd3Exception) as raised:
            self.client.put("", "1")
        self.assertIn("etcdserver: key is not provided", raised.exception.detail_text)
        answer = self.client.session.post(
            self.client.get_url("/kv/put"), json={"key": base64(self.key("a")), "lease": "123"}
        )
        self.assertEqual(answer.status_code, 404)
        self.assertEqual(
            (answer.json()["code"], answer.json()["message"]), (5, "etcdserver: requested lease not found")
        )

    def test_member_restart(self):
        """The leader is killed under writes; who watches it goes on where it was, without a gap."""
        victim = interop.leader()
        watching = connect(victim)
        writers = itertools.cycle([connect(name) for name in interop.others(victim)])
        writer = next(writers)

        def write(number):
            nonlocal writer
            deadline = interop.Deadline()
            while True:
                try:
                    return writer.put(self.key(f"{number:02}"), str(number))
                except UNREACHABLE as failure:
                    deadline.check(failure)
                    writer = next(writers)

        lease = writer.lease(60)
        events, cancel = watching.watch_prefix(self.prefix)
        for number in range(10):
            write(number)
        found = take(events, 10)
        interop.kill(victim)
        # The library says nothing of the end of a watch.
        cancel()
        with self.assertRaises(exceptions.ConnectionFailedError):
            watching.get(self.key("00"))
        for number in range(10, 20):
            write(number)
        interop.start(victim)
        for number in range(20, 30):
            write(number)

        following = int(found[-1]["kv"]["mod_revision"]) + 1
        events, cancel = watching.watch_prefix(self.prefix, start_revision=following)
        # A write whose answer was lost was made again: its key may be seen twice.
        while seen(found[-1])[2] != "29":
            found += take(events, 1)
        cancel()
        revisions = [int(event["kv"]["mod_revision"]) for event in found]
        self.assertEqual(revisions, sorted(set(revisions)))
        wanted = {self.key(f"{number:02}"): str(number) for number in range(30)}
        self.assertEqual({key: value for _, key, value in map(seen, found)}, wanted)
        held = {about["key"].decode(): value.decode() for value, about in watching.get_prefix(self.prefix)}
        self.assertEqual(held, wanted)
        lease.client = watching
        self.assertEqual(lease.refresh(), 60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
