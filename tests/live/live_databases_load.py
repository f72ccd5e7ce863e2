#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Databases that are hung, killed and restarted under load, and the import of a coturn SQLite file."""
import os
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import daemon                    # noqa: E402
import databases as db           # noqa: E402
import live_databases as base    # noqa: E402
import turnclient as tc          # noqa: E402


def only(*names):
    """The tests of base.Case are those of live_databases.py."""
    return {n: None for n in dir(base.Case) if n.startswith("test_") and n not in names}


class Imported:
    """turnpikectl user import: every table of a coturn SQLite file, with names that are data, and twice is as once."""
    server_class = None
    QUERIES = ("SELECT realm, name, hmackey FROM turnusers_lt", "SELECT realm, value FROM turn_secret",
               "SELECT realm, ip_range FROM allowed_peer_ip", "SELECT realm, ip_range FROM denied_peer_ip",
               "SELECT realm, opt, value FROM turn_realm_option", "SELECT origin, realm FROM turn_origin_to_realm")

    def rows(self, server):
        """char(128) of PostgreSQL is padded."""
        return [sorted(x.rstrip() for x in server.sql(q).replace("\t", "|").strip("\n").split("\n")) for q in self.QUERIES]

    def setUp(self):
        self.old, self.new = db.Sqlite(), self.server_class()
        self.addCleanup(self.old.stop)
        self.addCleanup(self.new.stop)
        self.old.tables()
        if self.new.type != "postgresql":   # mariadb has its account from here, and a SQLite file its owner
            self.new.tables()
        self.names = [n for n in base.NAMES if "\n" not in n and "\\" not in n]     # mariadb's client prints these otherwise
        for i, name in enumerate(self.names):
            self.old.add_user(name, "pass-%d" % i)
        self.old.add_user("elsewhere", "x", realm="another.example")
        self.old.add_secret("a-secret-that-moves-0123456789abcdef")
        self.old.add_range("denied", "192.0.2.0-192.0.2.255")
        self.old.add_range("allowed", "192.0.2.7", db.REALM)
        self.old.set_option("user-quota", 50)
        self.old.sql("INSERT INTO turn_origin_to_realm (origin, realm) VALUES ('https://a.example', 'another.example')")
        two = base.CONFIG.replace("  {more}", "    - {{ name: old, type: sqlite, connection: \"%s\" }}" % self.old.connection())
        self.d = daemon.Daemon(two, type=self.new.type, connection=self.new.connection())
        self.addCleanup(self.d.stop)
        self.assertTrue(daemon.until(lambda: all(x["up"] for x in self.d.status()["databases"])), self.d.text())

    def ctl(self, *args):
        r = subprocess.run([self.d.turnpikectl, "--runtime-dir", self.d.runtime, *args], text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=120)
        return r.returncode, r.stdout

    def test_import(self):
        before = self.rows(self.old)
        for _ in range(2):
            code, text = self.ctl("user", "import", "--from", "old", "--database", "main")
            self.assertEqual(code, 0, text)
            self.assertEqual(self.rows(self.new), before)
        self.assertEqual(self.rows(self.old), before)
        # What is there already takes the imported key; what the old one does not have stays.
        self.new.add_user("only-here", "x")
        self.old.delete_user(self.names[0])
        self.old.add_user(self.names[0], "changed")
        self.assertEqual(self.ctl("user", "import", "--from", "old", "--database", "main")[0], 0)
        self.assertEqual(set(self.rows(self.new)[0]) - set(self.rows(self.old)[0]),
                         {"%s|only-here|%s" % (db.REALM, db.hmackey("only-here", "x"))})
        # Served without the old one.
        self.old.kill()
        try:
            for i, name in enumerate(self.names[1:], 1):
                with tc.Client(self.d.server, name, "pass-%d" % i) as c:
                    c.allocate()
        finally:
            self.old.thaw()

    def test_what_cannot_be(self):
        for args in (("--from", "main"), ("--from", "none"), ()):
            code, text = self.ctl("user", "import", *args, "--database", "main")
            self.assertNotEqual(code, 0, args)
            self.assertTrue(text.strip(), args)
        self.old.kill()
        try:
            self.assertEqual(self.ctl("user", "import", "--from", "old", "--database", "main")[0], 1)
        finally:
            self.old.thaw()


class ImportedToSqlite(Imported, unittest.TestCase):
    server_class = db.Sqlite


@unittest.skipUnless(db.Postgres.is_there(), "PostgreSQL is not installed")
class ImportedToPostgres(Imported, unittest.TestCase):
    server_class = db.Postgres


@unittest.skipUnless(db.Maria.is_there(), "MariaDB is not installed")
class ImportedToMaria(Imported, unittest.TestCase):
    server_class = db.Maria


class UnderLoad:
    """A database that is hung, killed and restarted while sessions carry traffic and known users come: none is lost."""
    SESSIONS = 24

    def begin_load(self):
        self.up()
        self.clients = []
        for i in range(self.SESSIONS):
            c = self.client(base.NAMES[i % 8], "pass-%d" % (i % 8))
            c.allocate()
            c.permit(self.peer.addr)
            self.clients.append(c)

    def carry(self, seconds):
        """Datagrams of every session and a new allocation each round, while whatever happens happens."""
        end, i = time.monotonic() + seconds, 0
        while time.monotonic() < end or i < len(self.clients):
            c, n = self.clients[i % len(self.clients)], i % 8
            c.send_indication(self.peer.addr, b"%d" % i)
            got = self.peer.recv(10)
            self.assertIsNotNone(got, "session %d carries nothing" % (i % len(self.clients)))
            self.assertEqual(got, (b"%d" % i, tuple(c.relayed)))
            with tc.Client(self.d.server, base.NAMES[n], "pass-%d" % n, timeout=5) as new:
                new.allocate()
                new.refresh(0)
            i += 1

    def test_hung_killed_restarted(self):
        self.peer = daemon.Peer()
        self.addCleanup(self.peer.close)
        self.begin_load()
        workers = self.d.children("worker")
        self.s.freeze()
        try:
            self.carry(4)
        finally:
            self.s.thaw()
        self.carry(2)
        # PostgreSQL waits for its clients after SIGTERM.
        for sig in (signal.SIGKILL, signal.SIGINT if self.s.type == "postgresql" else signal.SIGTERM):
            self.s.kill(sig)
            try:
                self.carry(3)
            finally:
                self.s.thaw() if self.s.type == "sqlite" else self.s.start()
            self.carry(1)
        self.up()
        self.carry(1)
        self.assertEqual(self.d.children("worker"), workers)
        for c in self.clients:
            c.refresh()
        self.assertTrue(daemon.until(lambda: self.may("a;DROP TABLE turnusers_lt;--", "pass-3")))


class LoadSqlite(UnderLoad, type("Quiet", (base.Case,), only()), unittest.TestCase):
    server_class = db.Sqlite


@unittest.skipUnless(db.Postgres.is_there(), "PostgreSQL is not installed")
class LoadPostgres(UnderLoad, type("Quiet", (base.Case,), only()), unittest.TestCase):
    server_class = db.Postgres
    more = "database_cache: 1s"


@unittest.skipUnless(db.Maria.is_there(), "MariaDB is not installed")
class LoadMaria(UnderLoad, type("Quiet", (base.Case,), only()), unittest.TestCase):
    server_class = db.Maria


@unittest.skipUnless(db.Redis.is_there(), "Redis is not installed")
class LoadRedis(UnderLoad, type("Quiet", (base.Case,), only()), unittest.TestCase):
    server_class = db.Redis


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2)
