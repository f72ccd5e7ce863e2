#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""TURN over TLS: what is refused, certificates at a reload, turnpike-tls processes and workers that die around a handshake."""
import os
import socket
import ssl
import subprocess
import time
import unittest

import daemon
from daemon import tls_context as context, until
import turnclient as tc

CONFIG = daemon.DEFAULT.replace("transport: udp }}", """transport: udp }}
  - {{ address: 127.0.0.1, port: {tls}, transport: tls }}
  - {{ address: 127.0.0.1, port: {proxy}, transport: tls, proxy_protocol: 127.0.0.0/8 }}""") + """
tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
limits: {{ stream_deadline: {deadline}, handshake_timeout: {deadline} }}
"""

WATCHED = daemon.DEFAULT.replace("transport: udp }}", "transport: udp }}\n  - {{ address: 127.0.0.1, port: {tls}, transport: tls }}") + """
tls: {{ watch_interval: 200ms, certificates: [ {{ certificate: live/cert.pem, key: live/key.pem }} ] }}
"""


class Base(unittest.TestCase):
    deadline = "60s"

    @classmethod
    def setUpClass(cls):
        cls.tls, cls.proxy = daemon.free_port(kind=socket.SOCK_STREAM), daemon.free_port(kind=socket.SOCK_STREAM)
        cls.d = daemon.Daemon(CONFIG, start=False, tls=cls.tls, proxy=cls.proxy, deadline=cls.deadline)
        daemon.certificate(cls.d.dir)
        cls.d.start()

    @classmethod
    def tearDownClass(cls):
        code = cls.d.stop()
        assert code == 0, (code, cls.d.text())

    def client(self, tls=True, port=None, **kw):
        c = tc.StreamClient(("127.0.0.1", port or self.tls), "alice", "wonderland", tls=context() if tls else None,
                            timeout=30, **kw)
        self.addCleanup(c.close)
        return c


class Deadlines(Base):
    deadline = "5s"

    def test_half_a_hello_then_silence(self):
        c = self.client(tls=False)
        c.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        end = time.monotonic() + 60
        while not c.ended and time.monotonic() < end:
            c.recv_raw(0.5)
            c.buffer = b""              # an alert may come
        self.assertTrue(c.ended)

    def test_silence_after_the_handshake(self):
        c = self.client()
        self.assertIsNone(c.recv_raw(60))
        self.assertTrue(c.ended)


class Goodbye(Base):
    """However a connection ends, its client can tell the end from a truncation (RFC 8446 6.1, RFC 5246 7.2.1)."""
    deadline = "5s"
    versions = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

    def connect(self, version):
        sock = socket.create_connection(("127.0.0.1", self.tls))
        self.addCleanup(sock.close)
        tls = context(version).wrap_socket(sock, suppress_ragged_eofs=False)
        tls.settimeout(60)
        self.addCleanup(tls.close)
        return tls

    def ends_with(self, tls, alert):
        """Answers may come first; an end without an alert raises SSLEOFError, a reset ConnectionResetError."""
        try:
            while tls.recv(4096):
                pass
            self.assertIsNone(alert)
        except ssl.SSLError as e:
            self.assertNotIsInstance(e, ssl.SSLEOFError)
            self.assertIn(alert or "?", str(e))

    def test_deadline(self):
        for version in self.versions:
            with self.subTest(version):
                self.ends_with(self.connect(version), None)

    def test_half_a_record_and_silence(self):
        for version in self.versions:
            with self.subTest(version):
                tls = self.connect(version)
                tls.send(tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab"))
                with socket.socket(fileno=os.dup(tls.fileno())) as raw:
                    raw.send(b"\x17\x03\x03\x00\x40half")
                self.ends_with(tls, None)

    def test_junk_record(self):
        for version in self.versions:
            with self.subTest(version):
                tls = self.connect(version)
                tls.send(tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab"))
                with socket.socket(fileno=os.dup(tls.fileno())) as raw:
                    raw.send(b"\x17\x03\x03\x00\x40" + b"x" * 64 + b"more that is not read" * 1000)
                self.ends_with(tls, "BAD_RECORD_MAC")

    def test_bad_frame(self):
        for version in self.versions:
            for good in (b"", tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab")):
                with self.subTest((version, good)):
                    tls = self.connect(version)
                    tls.send(good + b"\xff" * 40)
                    self.ends_with(tls, None)

    def test_clients_close_notify_is_answered(self):
        for version in self.versions:
            with self.subTest(version):
                self.connect(version).unwrap()


class Tls(Base):
    def kill(self, role):
        """Kill all of a role, at least one, and wait for as many others."""
        self.assertTrue(until(lambda: self.d.children(role)))
        before = self.d.children(role)
        daemon.kill_all(before)
        self.assertTrue(until(lambda: self.d.replaced(role, before)))

    def test_what_is_no_tls_is_closed(self):
        for data in (b"GET / HTTP/1.1\r\n\r\n", tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab"), b"\0" * 30):
            c = self.client(tls=False)
            c.raw(data)
            self.assertTrue(c.is_closed(), data)

    def test_a_damaged_record_ends_it(self):
        c = self.client()
        c.allocate()
        raw = socket.socket(fileno=os.dup(c.sock.fileno()))
        raw.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with self.assertRaises((OSError, AssertionError)):
            c.sock.settimeout(30)
            assert c.sock.recv(100) != b""
        raw.close()
        c.close()
        self.assertTrue(until(lambda: self.d.status()["sessions"] == 0))

    def test_proxy_header_before_tls(self):
        c = self.client(port=self.proxy, header=b"PROXY TCP4 203.0.113.7 127.0.0.1 4567 3478\r\n")
        self.assertEqual(c.binding(), ("203.0.113.7", 4567))

    def test_close_frees_the_allocation(self):
        c = self.client()
        c.allocate()
        self.assertTrue(until(lambda: self.d.status()["sessions"] == 1))
        c.close()
        self.assertTrue(until(lambda: self.d.status()["sessions"] == 0))

    def test_a_tls_process_and_workers_die(self):
        c = self.client()
        c.allocate()
        self.kill("tls")
        c.refresh(600)
        again = self.client()
        again.allocate()
        self.kill("worker")
        c.refresh(600)
        again.refresh(600)
        self.kill("tls")
        again.refresh(600)

    def test_a_handshake_survives_its_worker(self):
        """The hello comes in two halves; the workers die in between."""
        raw = socket.create_connection(("127.0.0.1", self.tls))
        self.addCleanup(raw.close)
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context().wrap_bio(into, out)
        with self.assertRaises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = out.read()
        raw.sendall(hello[:60])
        self.assertTrue(until(lambda: self.d.counter("half_open_handshakes") > 0))
        self.kill("worker")
        raw.sendall(hello[60:])
        raw.settimeout(30)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(out.read())
                got = raw.recv(65536)
                self.assertNotEqual(got, b"")
                into.write(got)
        tls.write(tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab"))
        raw.sendall(out.read())
        into.write(raw.recv(65536))
        self.assertEqual(tc.Message(tls.read(2000)).txid, b"0123456789ab")

    def test_new_certificate_at_a_reload(self):
        def shown():
            c = self.client()
            return c.sock.getpeercert(True)
        old, first = self.client(), shown()
        old.allocate()
        daemon.certificate(self.d.dir)
        self.d.ctl("reload")
        self.assertTrue(until(lambda: shown() != first))
        old.refresh(600)
        with open(os.path.join(self.d.dir, "cert.pem"), "w") as f:
            f.write("nonsense")
        self.assertNotEqual(self.d.ctl("reload", check=False)[0], 0)
        self.assertIsNotNone(shown())
        old.refresh(600)
        daemon.certificate(self.d.dir)

    def test_certificates_are_watched(self):
        """As certbot does it: names lead over a symbolic link, which is pointed elsewhere.  No reload is asked for."""
        d = daemon.Daemon(WATCHED, start=False, tls=daemon.free_port(kind=socket.SOCK_STREAM))
        for name in ("one", "two"):
            os.mkdir(os.path.join(d.dir, name))
            daemon.certificate(os.path.join(d.dir, name))
            if os.geteuid() == 0:
                os.chmod(os.path.join(d.dir, name), 0o700)
        live = os.path.join(d.dir, "live")

        def point(name):
            os.symlink(name, live + ".new")
            os.replace(live + ".new", live)

        def shown():
            c = tc.StreamClient(("127.0.0.1", d.values["tls"]), "alice", "wonderland", tls=context(), timeout=30)
            try:
                return c.sock.getpeercert(True)
            finally:
                c.close()
        point("one")
        with d.start():
            old = tc.StreamClient(("127.0.0.1", d.values["tls"]), "alice", "wonderland", tls=context(), timeout=30)
            self.addCleanup(old.close)
            old.allocate()
            first = shown()
            point("two")
            self.assertTrue(until(lambda: shown() != first))
            second = shown()
            self.assertIn("live/cert.pem has changed", d.text())
            old.refresh(600)
            metric = 'turnpike_certificate_expiry_timestamp_seconds{certificate="%s/cert.pem"} ' % live
            ends = [float(line[len(metric):]) for line in d.http("/metrics")[1].splitlines() if line.startswith(metric)]
            self.assertEqual(len(ends), 1)
            self.assertLess(abs(ends[0] - time.time() - 90 * 86400), 86400)
            # Half of a pair: refused, the old one stays, and it is tried again without being asked.
            refused = "the configuration stays as it was"
            os.rename(os.path.join(d.dir, "one", "key.pem"), os.path.join(d.dir, "one", "kept"))
            os.symlink("../two/key.pem", os.path.join(d.dir, "one", "key.pem"))
            point("one")
            self.assertTrue(until(lambda: d.text().count(refused) >= 2))
            self.assertEqual(shown(), second)
            old.refresh(600)
            os.replace(os.path.join(d.dir, "one", "kept"), os.path.join(d.dir, "one", "key.pem"))
            self.assertTrue(until(lambda: shown() == first))
            old.refresh(600)

    def test_s_client_with_key_update(self):
        for version in ("-tls1_2", "-tls1_3"):
            p = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % self.tls, version, "-alpn", "stun.turn"],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.addCleanup(p.kill)
            text = b""

            def says(want):
                nonlocal text
                while want not in text:
                    got = os.read(p.stdout.fileno(), 65536)
                    self.assertNotEqual(got, b"", text)
                    text += got

            def tell(data):
                p.stdin.write(data)
                p.stdin.flush()
            says(b"Verify return code")
            if version == "-tls1_3":
                for command in (b"K\n", b"k\n"):       # a line each, and it says so
                    tell(command)
                    says(b"KEYUPDATE")
                    text = text.replace(b"KEYUPDATE", b"")
            tell(tc.build(tc.BINDING, tc.REQUEST, b"\0\0\0\0\0\0\0\0\0\0\0\0"))
            says(bytes.fromhex("0101000c2112a442"))
            p.kill()
            p.communicate()
            self.assertIn(b"ALPN protocol: stun.turn", text)
            self.assertIn(bytes.fromhex("0101000c2112a442"), text)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
