#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Databases over TLS, deletions that the engine announces, and tables that coturn's own turnadmin writes.

TP_COTURN names the directory where Debian's coturn package was unpacked; without it the tests of turnadmin are skipped."""
import glob
import json
import os
import shutil
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import daemon                    # noqa: E402
import databases as db           # noqa: E402
import live_databases as base    # noqa: E402
import turnclient as tc          # noqa: E402

TURNADMIN = os.path.join(os.environ.get("TP_COTURN", ""), "usr/bin/turnadmin")


def make_certificates(where):
    """ca.pem, another.pem (an authority that signed nothing), and a server's cert.pem and key.pem for 127.0.0.1."""
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    for name in ("ca", "another"):
        openssl(*new, "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=server",
            "-keyout", "key.pem", "-out", "server.csr")
    with open(os.path.join(where, "san"), "w") as f:
        f.write("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", "san", "-out", "cert.pem")
    for name in os.listdir(where):
        if name.endswith((".pem", ".key")):
            os.chmod(os.path.join(where, name), 0o644)


class RedisTls(db.Redis):
    authority = "ca.pem"

    def prepare(self):
        super().prepare()
        make_certificates(self.dir)
        self.tls_port = daemon.free_port(kind=db.socket.SOCK_STREAM)
        with open(os.path.join(self.dir, "redis.conf"), "a") as f:
            f.write("tls-port %d\ntls-cert-file %s/cert.pem\ntls-key-file %s/key.pem\ntls-ca-cert-file %s/ca.pem\n"
                    "tls-auth-clients no\n" % (self.tls_port, self.dir, self.dir, self.dir))

    def connection(self, user="turn", password="turnpass"):
        return "ip=127.0.0.1 port=%d user=%s password=%s connect_timeout=2 tls=1 tls-ca=%s/%s" % (
            self.tls_port, user, password, self.dir, self.authority)


class MariaTls(db.Maria):
    authority = "ca.pem"

    def prepare(self):
        super().prepare()
        make_certificates(self.dir)

    def command_line(self):
        return super().command_line() + ["--ssl-cert=%s/cert.pem" % self.dir, "--ssl-key=%s/key.pem" % self.dir,
                                         "--ssl-ca=%s/ca.pem" % self.dir]

    def tables(self):
        super().tables()
        # This user is refused without TLS.
        self.sql("ALTER USER turn@'127.0.0.1' REQUIRE SSL", "mysql")

    def connection(self):
        return super().connection() + " ssl-ca=%s/%s" % (self.dir, self.authority)


class OverTls(base.Case):
    """The same look-ups; a certificate of another authority ends them."""
    test_03_secrets = test_10_peer_lists = test_12_user_quota = test_15_operator = test_16_deny = test_20_frozen = None
    test_11_the_database_is_no_peer = test_30_bad_entries = test_22_auth_is_killed = None

    def test_50_another_authority(self):
        self.s.authority = "another.pem"
        try:
            d = daemon.Daemon(base.CONFIG, type=self.s.type, connection=self.s.connection(), more="")
        finally:
            self.s.authority = "ca.pem"
        self.addCleanup(d.stop)
        self.assertTrue(daemon.until(lambda: "database main: down" in d.text()), d.text())
        self.assertIn("certificate", d.text())
        with tc.Client(d.server, "alice", "pass-0", timeout=3) as c, self.assertRaises((tc.TurnError, OSError)):
            c.allocate()
        with tc.Client(d.server, "static", "a-static-password") as c:
            c.allocate()


@unittest.skipUnless(db.Redis.is_there(), "Redis is not installed")
class RedisOverTls(OverTls, unittest.TestCase):
    server_class = RedisTls
    more = "database_cache: 1h"

    def test_51_deleted(self):
        """Only a keyspace event can end what is cached for an hour."""
        self.assertTrue(daemon.until(lambda: self.may("alice", "pass-0")))
        self.s.delete_user("alice")
        self.assertTrue(daemon.until(lambda: self.may("alice", "pass-0") is False))


@unittest.skipUnless(db.Maria.is_there(), "MariaDB is not installed")
class MariaOverTls(OverTls, unittest.TestCase):
    server_class = MariaTls


@unittest.skipUnless(db.Postgres.is_there(), "PostgreSQL is not installed")
class Notified(base.Case, unittest.TestCase):
    """A key is cached for longer than a test waits: only NOTIFY can end it."""
    server_class = db.Postgres
    more = "database_cache: 1h"
    test_01_names_are_data = test_02_static_beside = test_03_secrets = test_04_changed_password = None
    test_05_a_user_who_comes_late = test_10_peer_lists = test_11_the_database_is_no_peer = test_12_user_quota = None
    test_15_operator = test_16_deny = test_20_frozen = test_21_killed_and_started = test_22_auth_is_killed = None
    test_30_bad_entries = None

    def deleted(self, name, password, notify):
        self.up()
        self.assertTrue(daemon.until(lambda: self.may(name, password)))
        self.s.delete_user(name)
        self.assertTrue(self.may(name, password))
        self.s.sql(notify)
        self.assertTrue(daemon.until(lambda: self.may(name, password) is False))

    def test_one_user(self):
        self.deleted("alice", "pass-0", "NOTIFY turnpike, 'alice'")

    def test_everything(self):
        self.deleted("two words", "pass-7", "NOTIFY turnpike")


@unittest.skipUnless(os.access(TURNADMIN, os.X_OK), "TP_COTURN does not name an unpacked coturn package")
class Turnadmin(unittest.TestCase):
    """What coturn's own tool writes is served."""
    def write(self, server, *where):
        def admin(*args):
            r = subprocess.Popen([TURNADMIN, *where, "-r", db.REALM, *args], text=True, cwd=server.dir,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            text, _ = r.communicate(timeout=60)
            # It has no option against its log file.
            for place in ("/var/log", "/var/tmp", "/tmp", server.dir):
                for log in glob.glob("%s/turn_%d_*.log" % (place, r.pid)):
                    os.unlink(log)
            self.assertEqual(r.returncode, 0, text)
        admin("-a", "-u", "alice@example.org", "-p", "a long password")
        admin("-a", "-u", "gone", "-p", "x")
        admin("-d", "-u", "gone")
        admin("-s", "a-secret-from-turnadmin-0123456789")

    def serve(self, server):
        d = daemon.Daemon(base.CONFIG, type=server.type, connection=server.connection(), more="")
        self.addCleanup(d.stop)

        def may(user, password):
            try:
                with tc.Client(d.server, user, password) as c:
                    c.allocate()
                return True
            except tc.TurnError as e:
                self.assertEqual(e.code, 401)
                return False
        self.assertTrue(daemon.until(lambda: d.status()["databases"][0]["up"]), d.text())
        self.assertTrue(daemon.until(lambda: may("alice@example.org", "a long password")), d.text())
        self.assertFalse(may("gone", "x"))
        self.assertTrue(may(*tc.rest_credentials("a-secret-from-turnadmin-0123456789", "u")))

    def test_sqlite(self):
        s = db.Sqlite()
        self.addCleanup(s.stop)
        self.write(s, "-b", s.path)
        if os.geteuid() == 0:
            shutil.chown(s.path, "nobody", "nogroup")
        self.serve(s)

    @unittest.skipUnless(db.Postgres.is_there(), "PostgreSQL is not installed")
    def test_postgresql(self):
        s = db.Postgres()
        self.addCleanup(s.stop)
        s.tables()
        self.write(s, "-e", s.connection())
        self.serve(s)

    @unittest.skipUnless(db.Redis.is_there(), "Redis is not installed")
    def test_redis(self):
        s = db.Redis()
        self.addCleanup(s.stop)
        self.write(s, "-N", "ip=127.0.0.1 port=%d dbname=0 password=%s" % (s.port, s.password))
        self.serve(s)


FLOOD = """limits: {{ lookups_per_prefix: 2 }}
"""


@unittest.skipUnless(db.Redis.is_there(), "Redis is not installed")
class Flood(unittest.TestCase):
    def test_unknown_names(self):
        """A flood of made-up names does not become a flood of questions, and says so; others are served in it."""
        s = db.Redis()
        self.addCleanup(s.stop)
        s.tables()
        s.add_user("alice", "wonderland")
        d = daemon.Daemon(base.CONFIG + FLOOD, type=s.type, connection=s.connection(), more="")
        self.addCleanup(d.stop)
        self.assertTrue(daemon.until(lambda: d.status()["databases"][0]["up"]), d.text())
        count, began = 400, time.monotonic()
        transport = tc.attr("REQUESTED_TRANSPORT", b"\x11\0\0\0")
        with tc.Client(d.server, "x", "x", local=("127.0.0.66", 0)) as c:
            self.assertEqual(c.request(tc.ALLOCATE, transport).code, 401)
            for i in range(count):
                c.user = "made-up-%d" % i
                c.once(tc.ALLOCATE, transport, timeout=0.001)
            for i in range(10):                 # known users from elsewhere, cached or not, in the middle of it
                c.user = "more-%d" % i
                c.once(tc.ALLOCATE, transport, timeout=0.001)
                with tc.Client(d.server, "alice", "wonderland", local=("127.0.0.%d" % (70 + i), 0)) as other:
                    other.allocate()
                with tc.Client(d.server, "static", "a-static-password", local=("127.0.0.66", 0)) as other:
                    other.allocate()
            asked = d.counter("database_lookups", database="main", result="unknown")
            burst = 2 * 10 + 2 * (time.monotonic() - began) + 2
            self.assertLessEqual(asked, burst)
            self.assertGreaterEqual(asked, 20)
        refused = json.loads(d.ctl("limits", as_json=True)[1])["refused"]["limits.lookups_per_prefix"]
        self.assertGreaterEqual(refused, count - burst)
        said = [x for x in d.text().splitlines() if "limits.lookups_per_prefix is reached (2): clients of 127.0.0.66" in x]
        self.assertEqual(len(said), 1, d.text())


class Removing:
    """A user who is removed: refused soon, and its sessions end where auth.end_removed_users says so."""
    more = "database_cache: 2s\n  end_removed_users: true"
    within = 20

    def live(self, user):
        return len(json.loads(self.d.ctl("sessions", "user=" + user, as_json=True)[1])["sessions"])

    def begin_sessions(self):
        self.up()
        clients = {}
        for key, user, password in (("gone", "alice", "pass-0"), ("other", "o'brien", "pass-1"),
                                    ("rest", *tc.rest_credentials("a-database-secret-0123456789abcdef", "alice"))):
            clients[key] = self.client(user, password)
            clients[key].allocate()
        return clients

    def test_removed(self):
        c = self.begin_sessions()
        self.s.delete_user("alice")
        # Its REST namesake is another user.
        self.assertTrue(daemon.until(lambda: self.live("alice") == 1, self.within), self.d.text()[-2000:])
        self.assertFalse(self.may("alice", "pass-0"))
        c["rest"].refresh()
        c["other"].refresh()
        with self.assertRaises(tc.TurnError) as e:
            c["gone"].refresh()
        self.assertIn(e.exception.code, (401, 437))
        self.assertIn("its user was removed from the database", self.d.text())

    def test_changed(self):
        """Another password ends nothing, and the old one is refused."""
        c = self.client("two words", "pass-7")
        c.allocate()
        self.s.delete_user("two words")
        self.s.add_user("two words", "another")
        self.assertTrue(daemon.until(lambda: self.may("two words", "another"), self.within))
        self.assertTrue(daemon.until(lambda: self.may("two words", "pass-7") is False, self.within))

    def test_database_down(self):
        """A database that does not answer ends no session."""
        c = self.client("o'brien", "pass-1")
        c.allocate()
        self.s.kill()
        try:
            self.down()
            time.sleep(5)
            c.refresh()
        finally:
            self.s.thaw() if self.s.type == "sqlite" else self.s.start()
        self.up()
        time.sleep(5)
        c.refresh()


def only(*names):
    """The tests of base.Case are those of live_databases.py."""
    return {n: None for n in dir(base.Case) if n.startswith("test_") and n not in names}


class RemovedSqlite(Removing, type("Quiet", (base.Case,), only()), unittest.TestCase):
    server_class = db.Sqlite


@unittest.skipUnless(db.Maria.is_there(), "MariaDB is not installed")
class RemovedMaria(Removing, type("Quiet", (base.Case,), only()), unittest.TestCase):
    server_class = db.Maria


@unittest.skipUnless(db.Redis.is_there(), "Redis is not installed")
class RemovedRedis(Removing, type("Quiet", (base.Case,), only()), unittest.TestCase):
    """Keys are cached for longer than a test waits: only the event of the key can tell."""
    server_class = db.Redis
    more = "database_cache: 1h\n  end_removed_users: true"


@unittest.skipUnless(db.Postgres.is_there(), "PostgreSQL is not installed")
class RemovedPostgres(Removing, type("Quiet", (base.Case,), only()), unittest.TestCase):
    server_class = db.Postgres


class Kept(type("Quiet", (base.Case,), only()), unittest.TestCase):
    """By default sessions stay; what turnpikectl changes is known at once, on a database that announces nothing."""
    server_class = db.Sqlite
    more = "database_cache: 1h"

    def ctl(self, *args, text=None):
        r = subprocess.run([self.d.turnpikectl, "--runtime-dir", self.d.runtime, *args], input=text, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        return r.returncode, r.stdout

    def test_deleted_by_the_operator(self):
        self.up()
        c = self.client("alice", "pass-0")
        c.allocate()
        self.assertTrue(self.may("alice", "pass-0"))
        self.assertEqual(self.ctl("user", "delete", "alice", "--database", "main")[0], 0)
        self.assertTrue(daemon.until(lambda: self.may("alice", "pass-0") is False, 5))
        c.refresh()

    def test_secret_deleted(self):
        self.up()
        name, password = tc.rest_credentials("a-database-secret-0123456789abcdef", "u")
        self.assertTrue(daemon.until(lambda: self.may(name, password)))
        self.assertEqual(self.ctl("secret", "delete", "a-database-secret-0123456789abcdef", "--database", "main")[0], 0)
        self.assertTrue(daemon.until(lambda: self.may(name, password) is False, 10))


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2)
