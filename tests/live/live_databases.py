#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Users, secrets and peer lists from real databases in coturn's schema: found, cached, followed, missed, down."""
import hmac
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.environ.get("top_srcdir", "."), "tests", "lib"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import daemon                    # noqa: E402
import databases as db           # noqa: E402
import turnclient as tc          # noqa: E402

CONFIG = """
auth:
  realm: example.org
  users: {{ static: a-static-password }}
  secrets: [ {{ value: "a-static-secret-of-the-test-0123456789" }} ]
  databases:
    - {{ name: main, type: {type}, connection: "{connection}" }}
  {more}
listeners:
  - {{ address: 127.0.0.1, port: {port}, transport: udp }}
relay: {{ addresses: [ 127.0.0.1 ] }}
peers: {{ allow_private: [ 127.0.0.0/8 ] }}
process: {{ workers: 2 }}
log: {{ level: info, target: stderr }}
metrics: {{ address: 127.0.0.1, port: {metrics} }}
"""
# Data to every database, code to none.
NAMES = ["alice", "o'brien", "x' OR '1'='1", "a;DROP TABLE turnusers_lt;--", "per%cent_and*star?[a-z]", "back\\slash",
         "sla/sh/es", "two words", "\u00fcml\u00e4ut \u2603", "quote\"d", "$1 ? :name", "{{mustache}}", "new\nline"]


class Case:
    server_class = None
    more = ""

    @classmethod
    def setUpClass(cls):
        if not cls.server_class.is_there():
            raise unittest.SkipTest("%s is not installed" % cls.server_class.type)
        cls.s = cls.server_class()
        cls.s.tables()
        cls.d = None
        try:
            cls.begin()
            cls.d = daemon.Daemon(CONFIG, type=cls.s.type, connection=cls.s.connection(), more=cls.more)
        except BaseException:
            cls.s.stop()
            raise

    @classmethod
    def begin(cls):
        for i, name in enumerate(NAMES):
            cls.s.add_user(name, "pass-%d" % i)
        cls.s.add_secret("a-database-secret-0123456789abcdef")

    @classmethod
    def tearDownClass(cls):
        code = cls.d.stop()
        cls.s.stop()
        assert code == 0, (code, cls.d.text())

    def client(self, user, password, **kw):
        c = tc.Client(self.d.server, user, password, **kw)
        self.addCleanup(c.close)
        return c

    def may(self, user, password, **kw):
        """Whether an allocation comes; None without an answer."""
        try:
            self.client(user, password, **kw).allocate()
            return True
        except tc.TurnError as e:
            assert e.message.code == 401, e
            return False
        except (TimeoutError, OSError):
            return None

    def state(self):
        return self.d.status()["databases"][0]

    def up(self):
        self.assertTrue(daemon.until(lambda: self.state()["up"]), self.d.text())

    def down(self):
        self.assertTrue(daemon.until(lambda: not self.state()["up"]), self.state())

    # ---- what is found

    def test_01_names_are_data(self):
        self.up()
        for i, name in enumerate(NAMES):
            self.assertTrue(self.may(name, "pass-%d" % i), name)
            self.assertFalse(self.may(name, "wrong"), name)
        self.assertFalse(self.may("x' OR '1'='2", "pass-2"))
        self.assertFalse(self.may("nobody", "pass-0"))
        self.assertFalse(self.may("*", "pass-0"))
        self.assertFalse(self.may("%", "pass-0"))

    def test_06_a_name_longer_than_a_column(self):
        """STUN allows 763 bytes, a column has 511: such a name is no user of a database, and may be a secret's."""
        restarts = self.d.children("auth")
        for size in (511, 512, 513, 640, 763):
            self.assertIs(self.may("n" * size, "x"), False, size)
            name, password = tc.rest_credentials("a-database-secret-0123456789abcdef", "u" * (size - 11))
            self.assertTrue(daemon.until(lambda: self.may(name, password), 10), size)
        self.assertEqual(self.d.children("auth"), restarts)

    def test_02_static_beside(self):
        self.assertTrue(self.may("static", "a-static-password"))
        name, password = tc.rest_credentials("a-static-secret-of-the-test-0123456789", "u")
        self.assertTrue(self.may(name, password))

    def test_03_secrets(self):
        name, password = tc.rest_credentials("a-database-secret-0123456789abcdef", "u")
        self.assertTrue(self.may(name, password))
        name, password = tc.rest_credentials("another-database-secret-0123456789", "u")
        self.assertFalse(self.may(name, password))
        self.s.add_secret("another-database-secret-0123456789")
        self.assertTrue(daemon.until(lambda: self.may(name, password)))

    def test_04_changed_password(self):
        self.s.add_user("changing", "first")
        self.assertTrue(daemon.until(lambda: self.may("changing", "first")))
        self.s.delete_user("changing")
        self.s.add_user("changing", "second")
        self.assertTrue(daemon.until(lambda: self.may("changing", "second")))

    def test_05_a_user_who_comes_late(self):
        self.assertFalse(self.may("late", "later"))
        self.s.add_user("late", "later")
        self.assertTrue(daemon.until(lambda: self.may("late", "later")))

    # ---- what is followed

    @staticmethod
    def code(call, *args):
        """The error code that came; None: it worked."""
        try:
            call(*args)
            return None
        except tc.TurnError as e:
            return e.code

    def reaches(self, c, p):
        """Whether a datagram reaches the peer: a denied one never does."""
        c.send_indication(p.addr, b"x")
        return p.recv(timeout=0.3) is not None

    def test_10_peer_lists(self):
        """denied_peer_ip cuts off at the next packet; allowed_peer_ip is an exception of it."""
        c = self.client("alice", "pass-0")
        c.allocate()
        p = daemon.Peer()
        self.addCleanup(p.close)
        c.permit(p.addr)
        self.assertTrue(daemon.until(lambda: self.reaches(c, p)))
        self.s.add_range("denied", "127.0.0.0-127.0.0.255")
        self.assertTrue(daemon.until(lambda: not self.reaches(c, p)))
        self.assertEqual(self.code(c.permit, p.addr), 403)
        self.s.add_range("allowed", "127.0.0.1")
        self.assertTrue(daemon.until(lambda: self.code(c.permit, p.addr) is None))
        self.assertTrue(daemon.until(lambda: self.reaches(c, p)))
        self.s.clear_ranges()

    def test_11_the_database_is_no_peer(self):
        if self.s.type == "sqlite":
            self.skipTest("a file has no address")
        c = self.client("alice", "pass-0")
        c.allocate()
        self.assertEqual(self.code(c.bind, 0x4001, ("127.0.0.1", self.s.port)), 403)

    def test_12_user_quota(self):
        """A limit of the realm holds, and is followed."""
        first = self.client("two words", "pass-7")
        first.allocate()
        self.s.set_option("user-quota", 1)

        def refused():
            with tc.Client(self.d.server, "two words", "pass-7") as c:
                return self.code(c.allocate)
        self.assertTrue(daemon.until(lambda: refused() == 486))
        self.s.clear_options()
        self.assertTrue(daemon.until(lambda: refused() is None))

    # ---- what the operator does

    def test_15_operator(self):
        name, password = "it's; a \"new\" user", "a 'password'"
        self.assertEqual(self.ctl("user", "create", "--database", "main")[0], 0)
        self.assertEqual(self.ctl("user", "add", name, "-", "--database", "main", text=password)[0], 0)
        self.assertTrue(daemon.until(lambda: self.may(name, password)))
        self.assertIn("it's; a", self.ctl("user", "list", "--database", "main")[1])
        self.assertEqual(self.ctl("user", "add", name, "other", "--database", "main")[0], 0)
        self.assertTrue(daemon.until(lambda: self.may(name, "other")))
        self.assertEqual(self.ctl("user", "delete", name, "--database", "main")[0], 0)
        code, text = self.ctl("user", "delete", name, "--database", "main")
        self.assertEqual((code, "there is none" in text), (1, True), text)
        self.assertEqual(self.ctl("secret", "add", "-", "--database", "main", text="from-the-operator-0123456789abcdef")[0], 0)
        user, key = tc.rest_credentials("from-the-operator-0123456789abcdef", "u")
        self.assertTrue(daemon.until(lambda: self.may(user, key)))
        self.assertEqual(self.ctl("secret", "delete", "from-the-operator-0123456789abcdef", "--database", "main")[0], 0)
        self.assertEqual(self.ctl("user", "list", "--database", "other")[0], 1)
        self.assertEqual(self.ctl("user", "list")[0], 2)

    def test_16_deny(self):
        c = self.client("alice", "pass-0")
        c.allocate()
        self.assertEqual(self.ctl("deny", "alice")[0], 0)
        self.assertTrue(daemon.until(lambda: self.sessions("alice") == 0))
        self.assertFalse(self.may("alice", "pass-0"))
        self.assertTrue(self.may("o'brien", "pass-1"))
        self.assertIn("alice 0", self.ctl("deny")[1])
        for role in ("auth", "worker"):
            gone = list(self.d.children(role))
            daemon.kill_all(gone)
            self.assertTrue(daemon.until(lambda: self.d.replaced(role, gone)))
            self.assertTrue(daemon.until(lambda: self.may("o'brien", "pass-1")))
            self.assertTrue(daemon.until(lambda: self.may("alice", "pass-0") is False), role)
        self.assertEqual(self.ctl("undeny", "alice")[0], 0)
        self.assertTrue(daemon.until(lambda: self.may("alice", "pass-0")))
        self.assertEqual(self.ctl("undeny", "alice")[0], 1)
        # In the database, for every server that follows it.
        self.assertEqual(self.ctl("user", "create", "--database", "main")[0], 0)
        self.assertEqual(self.ctl("deny", "alice", "--database", "main")[0], 0)
        self.assertTrue(daemon.until(lambda: self.may("alice", "pass-0") is False))
        self.assertEqual(self.ctl("undeny", "alice", "--database", "main")[0], 0)
        self.assertTrue(daemon.until(lambda: self.may("alice", "pass-0")))

    def ctl(self, *args, text=None):
        r = subprocess.run([self.d.turnpikectl, "--runtime-dir", self.d.runtime, *args], input=text, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        return r.returncode, r.stdout

    def sessions(self, user):
        return len([x for x in json.loads(self.d.ctl("sessions", "user=" + user, as_json=True)[1])["sessions"]])

    # ---- what goes wrong

    def test_20_frozen(self):
        """A database that does not answer stops no user with a known key, and no static user."""
        self.up()
        self.assertTrue(self.may("alice", "pass-0"))
        self.s.freeze()
        try:
            self.assertTrue(self.may("alice", "pass-0"))
            self.assertTrue(self.may("static", "a-static-password"))
            self.assertIsNone(self.may("stranger", "x", timeout=3))
            self.down()
            self.assertTrue(self.may("alice", "pass-0"))
            self.assertTrue(self.may("static", "a-static-password"))
        finally:
            self.s.thaw()
        self.up()
        self.assertTrue(daemon.until(lambda: self.may("o'brien", "pass-1")))
        self.assertTrue(daemon.until(lambda: self.may("stranger", "x") is False))

    def test_21_killed_and_started(self):
        self.assertTrue(daemon.until(lambda: self.may("alice", "pass-0")))
        before = self.d.text().count("database main: down")
        self.s.kill()
        self.down()
        self.assertTrue(self.may("alice", "pass-0"))
        self.assertTrue(self.may("static", "a-static-password"))
        self.s.thaw() if self.s.type == "sqlite" else self.s.start()
        self.up()
        self.assertTrue(daemon.until(lambda: self.may("o'brien", "pass-1")))
        # Once per change of what is wrong, not per question.
        self.assertLessEqual(self.d.text().count("database main: down") - before, 4)

    def test_22_auth_is_killed(self):
        (pid,) = self.d.children("auth")
        os.kill(pid, signal.SIGKILL)
        self.assertTrue(daemon.until(lambda: self.d.replaced("auth", [pid])))
        self.assertTrue(daemon.until(lambda: self.may("alice", "pass-0")))

    def test_30_bad_entries(self):
        self.s.add_range("denied", "not-an-address", "")
        self.assertTrue(daemon.until(lambda: "not-an-address" in self.d.text()))
        self.assertTrue(self.may("alice", "pass-0"))
        self.s.clear_ranges()


@unittest.skipUnless(db.Postgres.is_there(), "PostgreSQL is not installed")
class OnPostgres(Case, unittest.TestCase):
    server_class = db.Postgres

    def test_40_uri(self):
        d = daemon.Daemon(CONFIG, type="postgresql", connection=self.s.uri(), more="")
        self.addCleanup(d.stop)
        with tc.Client(d.server, "alice", "pass-0") as c:
            c.allocate()


@unittest.skipUnless(db.Redis.is_there(), "Redis is not installed")
class OnRedis(Case, unittest.TestCase):
    server_class = db.Redis


@unittest.skipUnless(db.Maria.is_there(), "MariaDB is not installed")
class OnMaria(Case, unittest.TestCase):
    server_class = db.Maria


class OnSqlite(Case, unittest.TestCase):
    server_class = db.Sqlite


class Service(http.server.BaseHTTPRequestHandler):
    """The web service of an operator, as simple as it gets."""
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server, ask = self.server, json.loads(body)
        server.asked.append(ask)
        t, v1 = (x.split("=")[1] for x in self.headers["X-Turnpike-Signature"].split(","))
        server.signed.append(hmac.new(b"the-secret-of-the-service", t.encode() + b"." + body, "sha256").hexdigest() == v1)
        code, answer = server.users.get(ask["username"], (404, {}))
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class OnService(unittest.TestCase):
    """The HTTP callback, and limits of single users."""
    @classmethod
    def setUpClass(cls):
        cls.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        cls.http.daemon_threads = True
        cls.http.asked, cls.http.signed = [], []
        cls.http.users = {
            "alice": (200, {"password": "from-the-service", "ttl": 60}),
            "carol": (200, {"key": db.hmackey("carol", "by-key")}),
            "limited": (200, {"password": "p", "limits": {"allocations": 2, "permissions": 3, "bandwidth": 80000}}),
            "over": (200, {"password": "p", "expires": 1000}),
            "nonsense": (200, b"<html>"), "empty": (200, {}), "broken": (500, {"password": "p"}),
            "moved": (302, {"password": "p"}), "no": (403, {}),
        }
        threading.Thread(target=cls.http.serve_forever, daemon=True).start()
        config = CONFIG.replace('connection: "{connection}"', 'connection: "{connection}", secret_file: service.secret')
        config = config.replace("static: a-static-password", "static: a-static-password, small: {{ password: an-own-limit, "
                                "allocations: 1, permissions: 2, bandwidth: 80kbit }}")
        cls.d = daemon.Daemon(config, type="http", more="", files={"service.secret": "the-secret-of-the-service\n"},
                              connection="http://127.0.0.1:%d/turn" % cls.http.server_address[1])

    @classmethod
    def tearDownClass(cls):
        code = cls.d.stop()
        cls.http.shutdown()
        assert code == 0, (code, cls.d.text())

    client, may, code = Case.client, Case.may, staticmethod(Case.code)

    def test_answers(self):
        self.assertTrue(self.may("alice", "from-the-service"))
        self.assertTrue(self.may("alice", "from-the-service", sha256=True))
        self.assertTrue(self.may("carol", "by-key"))
        for name in ("alice", "carol", "over", "no", "unknown", "\U0001f600"):
            self.assertFalse(self.may(name, "p"), name)
        self.assertTrue(all(self.http.signed))
        ask = next(a for a in self.http.asked if a["username"] == "carol")
        self.assertEqual((ask["realm"], ask["purpose"], ask["client"].split(":")[0]), ("example.org", "turn", "127.0.0.1"))

    def test_failures_close(self):
        for name in ("nonsense", "empty", "broken", "moved"):
            self.assertIsNone(self.may(name, "p", timeout=2.5), name)
        self.assertTrue(self.may("static", "a-static-password"))

    def test_who_may_cause_a_question(self):
        before = len(self.http.asked)
        c = self.client("stranger", "p")
        c.binding()
        c.raw(tc.build(tc.ALLOCATE, tc.REQUEST, os.urandom(12), tc.attr("USERNAME", b"stranger") + tc.attr("REALM", b"example.org") +
                       tc.attr("NONCE", b"x" * 24), key=b"0" * 16))
        self.assertIsNotNone(c.recv_raw())
        self.assertEqual(len(self.http.asked), before)

    def test_cached(self):
        def asked(name):
            return len([1 for a in self.http.asked if a["username"] == name])
        self.http.users["cached"] = (200, {"password": "p", "ttl": 600})
        for _ in range(8):
            self.assertTrue(self.may("cached", "p"))
            self.assertFalse(self.may("absent", "p"))
        self.assertEqual(asked("cached"), 1)
        self.assertLessEqual(asked("absent"), 3)

    def test_limits_of_one_user(self):
        """From the service and from YAML; exact also after workers have died."""
        for name, password, allocations, permissions in (("limited", "p", 2, 3), ("small", "an-own-limit", 1, 2)):
            held = [self.client(name, password) for _ in range(allocations)]
            for c in held:
                c.allocate()
            peers = [("127.0.0.%d" % i, 9) for i in range(1, permissions + 2)]
            for when in ("before", "after"):
                self.assertEqual(self.code(self.client(name, password).allocate), 486, (name, when))
                for peer in peers[:permissions]:
                    held[0].permit(peer)
                self.assertEqual(self.code(held[0].permit, peers[permissions]), 508, (name, when))
                if when == "before":
                    gone = list(self.d.children("worker"))
                    daemon.kill_all(gone)
                    self.assertTrue(daemon.until(lambda: self.d.replaced("worker", gone)))
            self.assertEqual(self.code(self.client("static", "a-static-password").allocate), None)
            for c in held:
                c.refresh(0)

    def test_bandwidth_of_one_user(self):
        c, p = self.client("small", "an-own-limit"), daemon.Peer()
        self.addCleanup(p.close)
        c.allocate()
        c.permit(p.addr)
        before = self.d.drops("bandwidth")
        for _ in range(300):
            c.send_indication(p.addr, b"x" * 1000)
        self.assertTrue(daemon.until(lambda: self.d.drops("bandwidth") > before))
        c.refresh(0)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2)
