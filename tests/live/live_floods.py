#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""TCP and TLS clients that mean ill, by the thousand: what they hold is bounded, and others are served meanwhile.

TP_HALF_OPEN: half-open handshakes (10,000, or as many as half of the descriptors allow)."""
import contextlib
import ctypes
import ctypes.util
import os
import resource
import socket
import ssl
import struct
import time
import unittest

import daemon
from daemon import tls_context as context, until
import turnclient as tc

DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, 65536), DESCRIPTORS))
HALF_OPEN = min(int(os.environ.get("TP_HALF_OPEN", 10000)), DESCRIPTORS // 2 - 200)
TOTAL = 300                      # limits.half_open_total
CONFIG = daemon.DEFAULT.replace("transport: udp }}", """transport: [ udp, tcp, tls ] }}
  - {{ address: 127.0.0.1, port: {tcp}, transport: tcp }}
  - {{ address: 127.0.0.1, port: {tls}, transport: tls }}
  - {{ address: 127.0.0.1, port: {proxy}, transport: [ tcp, tls ], proxy_protocol: [ 127.0.0.0/8 ] }}""") + """
tls: {{ watch_interval: 0s, certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
limits: {{ half_open_total: %d, stream_deadline: {deadline}, handshake_timeout: {deadline}, bindings_per_prefix: 0 }}
""" % TOTAL
BINDING = tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab")
MB = 1 << 20


def hello(name="turn.test"):
    """A whole ClientHello, and what can go on from it."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context().wrap_bio(into, out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read(), tls, into, out


def memory(d):
    """What the daemon's processes hold, shared pages counted once; 0 in a build with AddressSanitizer, which keeps what
    was freed."""
    return 0 if daemon.is_sanitized(d.process.pid) else daemon.memory([d.process.pid, *d.children()])


def own_ports():
    return {name: daemon.free_port(kind=socket.SOCK_STREAM) for name in ("tcp", "tls", "proxy")}


@contextlib.contextmanager
def running(deadline="30s"):
    ports = own_ports()
    d = daemon.Daemon(CONFIG, start=False, deadline=deadline, **ports)
    daemon.certificate(d.dir)
    with d:
        d.start()
        yield d


class KeyUpdater:
    """libssl itself: Python's ssl cannot send a KeyUpdate."""

    def __init__(self, server):
        def fn(name, result, *args):
            f = getattr(lib, name)
            f.restype, f.argtypes = result, args
            return f
        lib = ctypes.CDLL(ctypes.util.find_library("ssl"))
        p, i = ctypes.c_void_p, ctypes.c_int
        self.sock = socket.create_connection(server, timeout=30)
        self.sock.setblocking(True)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 20, 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 20, 0))
        self._update, self._shake = fn("SSL_key_update", i, p, i), fn("SSL_do_handshake", i, p)
        self._write, self._read = fn("SSL_write", i, p, ctypes.c_char_p, i), fn("SSL_read", i, p, ctypes.c_char_p, i)
        self.ctx = fn("SSL_CTX_new", p, p)(fn("TLS_client_method", p)())
        self.ssl = fn("SSL_new", p, p)(self.ctx)
        fn("SSL_set_fd", i, p, i)(self.ssl, self.sock.fileno())
        assert fn("SSL_connect", i, p)(self.ssl) == 1
        assert fn("SSL_version", i, p)(self.ssl) == 0x304

    def update(self, ask=False):
        return self._update(self.ssl, 1 if ask else 0) == 1 and self._shake(self.ssl) == 1

    def binding(self):
        if self._write(self.ssl, BINDING, len(BINDING)) != len(BINDING):
            return False
        buf = ctypes.create_string_buffer(2000)
        n = self._read(self.ssl, buf, 2000)
        return n > 20 and buf.raw[8:20] == b"0123456789ab"


class Floods(unittest.TestCase):
    def client(self, d, tls=None, port=None, **kw):
        c = tc.StreamClient(("127.0.0.1", port or d.port), "alice", "wonderland", tls=tls, **kw)
        self.addCleanup(c.close)
        return c

    def served(self, d):
        """A newcomer over each transport gets an allocation and has data relayed."""
        for tls in (None, context(ssl.TLSVersion.TLSv1_2), context(ssl.TLSVersion.TLSv1_3)):
            with daemon.Peer() as p:
                c = self.client(d, tls)
                c.allocate()
                c.bind(0x4000, p.addr)
                self.relay(c, p)
                c.close()

    def relay(self, c, p, payload=b"payload"):
        c.channel_data(0x4000, payload)
        self.assertEqual(p.recv(), (payload, c.relayed))
        p.send(payload[::-1], c.relayed)
        got = c.data()
        while got and len(got) == 3 and got[2] is not None:     # that something before was too large
            got = c.data()
        self.assertEqual(got, (0x4000, payload[::-1]))

    def hold(self, d, first, count, data, held):
        """Connections of many addresses, all of which send `data` and then nothing."""
        for i in range(first, first + count):
            s = socket.socket()
            held.append(s)
            s.settimeout(30)
            s.bind(("127.1.%d.%d" % (i // 100, i % 100 // 10 + 1), 0))
            s.connect(("127.0.0.1", d.values["tls"]))
            s.sendall(data)

    def settled(self, d, came):
        """All have been seen, and no more are left than the cap leaves."""
        text = d.http("/metrics")[1].splitlines()
        self.assertLessEqual(d.counter("half_open_handshakes"), TOTAL)
        opened, closed = (sum(int(x.split()[1]) for x in text if x.startswith("turnpike_connections_%s_total" % what))
                          for what in ("opened", "closed"))
        return opened >= came and opened - closed <= TOTAL

    def half_open(self, data):
        """Memory does not grow with how many came, once the cap is reached."""
        with running() as d, contextlib.ExitStack() as closing:
            held = []
            closing.callback(lambda: [s.close() for s in held])
            some = 2 * TOTAL
            self.hold(d, 0, some, data, held)
            self.assertTrue(until(lambda: self.settled(d, some)))
            self.served(d)
            before = memory(d)
            for first in range(some, HALF_OPEN, 1000):
                count = min(1000, HALF_OPEN - first)
                self.hold(d, first, count, data, held)
                self.assertTrue(until(lambda: self.settled(d, first + count)))
                self.served(d)
            grown = memory(d) - before
            self.assertGreaterEqual(d.counter("handshake_failures", reason="crowded"), len(held) - TOTAL)
            print("%d half-open handshakes: %+.1f MB after the first %d" % (len(held), grown / MB, some), flush=True)
            # 10,000 OpenSSL objects would be 600 MB; the rest is what the kernel and malloc round.
            self.assertLess(grown, 24 * MB)
            self.assertEqual(d.status()["sessions"], 0)

    def test_half_open_handshakes(self):
        self.half_open(hello()[0])

    def test_record_that_declares_650000_bytes(self):
        """35 bytes: a handshake message of 650,000, of which a first piece comes and then nothing."""
        body = b"\x01" + (650000).to_bytes(3, "big") + b"\x03\x03" + b"x" * 24
        piece = b"\x16\x03\x01" + struct.pack("!H", len(body)) + body
        self.assertEqual(len(piece), 35)
        with running() as d:
            self.served(d)
            held = [self.client(d, port=d.values["tls"], local=("127.2.0.%d" % (1 + i // 50), 0)) for i in range(500)]
            before = memory(d)
            for c in held:
                c.raw(piece)
            for c in held:
                end = time.monotonic() + 60
                while not c.ended and time.monotonic() < end:
                    c.recv_raw(1)
                    c.buffer = b""      # an alert may come
                self.assertTrue(c.ended)
            self.assertLess(memory(d) - before, 24 * MB)
            self.served(d)

    def test_messages_of_64_kib(self):
        """What 16 bits of length can say is carried both ways.  What no datagram can carry is dropped, and the connection
        goes on; what a stranger has no use for ends his."""
        sizes = (2028, 2048, 2049, 16384, 40001, 65507)
        with running() as d:
            for tls in (None, context(ssl.TLSVersion.TLSv1_2), context(ssl.TLSVersion.TLSv1_3)):
                with self.subTest(tls=tls and tls.maximum_version), daemon.Peer() as p:
                    c = self.client(d, tls)
                    c.allocate()
                    c.permit(p.addr)
                    for size in sizes:
                        payload = os.urandom(size)
                        c.send_indication(p.addr, payload)
                        self.assertEqual(p.recv(30), (payload, c.relayed))
                        p.send(payload, c.relayed)
                        self.assertEqual(c.data(30)[:2], (p.addr, payload))
                    c.bind(0x4000, p.addr)
                    for size in sizes:
                        self.relay(c, p, os.urandom(size))
                    before = d.drops("too_large")
                    c.channel_data(0x4000, os.urandom(65535))
                    c.send_indication(p.addr, os.urandom(65516))
                    c.refresh(600)
                    self.assertTrue(until(lambda: d.drops("too_large") == before + 2))
                    self.relay(c, p)
                    # Its length is none of STUN's.
                    c.raw(struct.pack("!HHI", 0x16, 65533, 0x2112a442) + b"x" * 100)
                    self.assertTrue(c.is_closed(20))
                    for first in (b"", BINDING):
                        for head in (struct.pack("!HHI", 1, 2032, 0x2112a442), struct.pack("!HH", 0x4000, 2045)):
                            c = self.client(d, tls)
                            if first:
                                self.assertIsNotNone(c.binding())
                            c.raw(head)
                            self.assertTrue(c.is_closed(20))

    def test_hello_then_silence(self):
        """A whole hello is answered; a client that then says nothing is closed at the deadline."""
        with running("5s") as d:
            c = self.client(d, port=d.values["tls"])
            c.raw(hello()[0])
            got = b""
            while True:
                c.sock.settimeout(30)
                more = c.sock.recv(65536)
                if not more:
                    break
                got += more
            self.assertEqual(got[:1], b"\x16")
            self.assertTrue(until(lambda: d.counter("handshakes", result="failed") == 1))
            self.assertTrue(until(lambda: d.counter("connections_closed") == d.counter("connections_opened")))

    def test_what_belongs_to_another_port(self):
        """HTTP to any port, TLS to one without it: closed without a byte."""
        http = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.0\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
        with running() as d:
            v = d.values
            for port, data in [(p, h) for p in (d.port, v["tcp"], v["tls"], v["proxy"]) for h in http] + \
                    [(v["tcp"], hello()[0]), (v["proxy"], hello()[0])]:
                with self.subTest(port=port, data=data[:8]):
                    c = self.client(d, port=port)
                    c.raw(data)
                    self.assertTrue(c.is_closed())
            header = b"PROXY TCP4 203.0.113.7 127.0.0.1 4567 3478\r\n"
            for h in http:
                c = self.client(d, port=v["proxy"], header=header)
                c.raw(h)
                self.assertTrue(c.is_closed(), h)
            self.served(d)

    def test_tls_in_any_pieces(self):
        """The connection's bytes come one by one, from the hello on; then many frames come in one record."""
        with running() as d:
            for proxied in (b"", b"PROXY TCP4 203.0.113.7 127.0.0.1 4567 3478\r\n"):
                c = self.client(d, port=d.values["proxy" if proxied else "tls"])
                first, tls, into, out = hello()

                def dribble(data):
                    for i in range(len(data)):
                        c.raw(data[i:i + 1])

                def step(call):
                    while True:
                        try:
                            return call()
                        except ssl.SSLWantReadError:
                            dribble(out.read())
                            got = c.sock.recv(65536)
                            self.assertNotEqual(got, b"")
                            into.write(got)
                dribble(proxied + first)
                step(tls.do_handshake)
                for count in (1, 300):
                    tls.write(b"".join(tc.build(tc.BINDING, tc.REQUEST, b"%012d" % i) for i in range(count)))
                    data = out.read()
                    (dribble if count == 1 else c.raw)(data)
                    got = b""
                    for i in range(count):
                        while len(got) < 20 or len(got) < 20 + struct.unpack("!H", got[2:4])[0]:
                            got += step(lambda: tls.read(65536))
                        size = 20 + struct.unpack("!H", got[2:4])[0]
                        m, got = tc.Message(got[:size]), got[size:]
                        self.assertEqual(m.txid, b"%012d" % i)
                        if proxied:
                            self.assertEqual(m.address("XOR_MAPPED_ADDRESS"), ("203.0.113.7", 4567))
                    self.assertEqual(got, b"")

    def test_key_update_flood(self):
        """Some are served; thousands end the connection, and only this one."""
        with running() as d:
            good = self.client(d, context(ssl.TLSVersion.TLSv1_3))
            good.allocate()
            c = KeyUpdater(d.server)
            for ask in (False, True) * 3:
                self.assertTrue(c.update(ask))
                self.assertTrue(c.binding())
            sent = 0
            while sent < 20000 and c.update(sent % 2 == 0):
                sent += 1
            self.assertFalse(c.binding(), "%d KeyUpdates and still served" % sent)
            c.sock.close()
            good.refresh(600)
            self.served(d)

    def test_stalled_readers_while_peers_flood(self):
        """Each costs at most its queue; no other client notices; a client that reads again is served again."""
        readers = 64
        with running() as d, daemon.Peer() as peer:
            self.served(d)
            stalled = []
            for i in range(readers):
                c = self.client(d, (None, context(ssl.TLSVersion.TLSv1_2), context(ssl.TLSVersion.TLSv1_3))[i % 3])
                c.user, c.password = tc.rest_credentials(daemon.SECRET, "u%d" % i)
                c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                c.allocate()
                c.bind(0x4000, peer.addr)
                stalled.append(c)
            before = memory(d)
            payload = b"." * 1200

            def flood(packets):
                for _ in range(packets):
                    for c in stalled:
                        peer.send(payload, c.relayed)

            def full():
                flood(50)
                return d.drops("stream_full") > 20 * readers
            self.assertTrue(until(full))
            filled = memory(d)
            flood(500)
            self.served(d)
            after = memory(d)
            print("%d stalled readers: %+.1f MB when full, %+.1f MB after more" % (readers, (filled - before) / MB,
                  (after - filled) / MB), flush=True)
            self.assertLess(filled - before, readers * 256 * 1024 + 16 * MB)
            self.assertLess(after - filled, 8 * MB)
            for c in stalled[:6]:
                self.assertIsNotNone(c.refresh(600))
                while c.data(0.3):
                    pass
                peer.send(b"again", c.relayed)
                got = (None, b"")
                while got and got[1] != b"again":
                    got = c.data(30)
                self.assertEqual(got, (0x4000, b"again"))

    def test_wrong_certificates_are_fatal_at_the_start(self):
        def spoil(d, what):
            crt, key = os.path.join(d.dir, "cert.pem"), os.path.join(d.dir, "key.pem")
            if what == "no certificate":
                os.unlink(crt)
            elif what == "no key":
                os.unlink(key)
            elif what == "empty":
                open(crt, "w").close()
            elif what == "nonsense":
                with open(crt, "w") as f:
                    f.write("-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n")
            elif what == "half a key":
                with open(key, "r+") as f:
                    f.truncate(60)
            elif what == "key of another":
                with open(crt) as f:
                    old = f.read()
                daemon.certificate(d.dir)
                with open(crt, "w") as f:
                    f.write(old)
            elif what == "swapped":
                os.rename(crt, crt + "~")
                os.rename(key, crt)
                os.rename(crt + "~", key)
        wrong = ("no certificate", "no key", "empty", "nonsense", "half a key", "key of another", "swapped")
        for what in wrong:
            with self.subTest(what):
                d = daemon.Daemon(CONFIG, start=False, deadline="10s", **own_ports())
                daemon.certificate(d.dir)
                spoil(d, what)
                with self.assertRaisesRegex(RuntimeError, "turnpiked ended with [1-9]") as e:
                    try:
                        d.start()
                    finally:
                        d.stop()
                self.assertRegex(str(e.exception), "cert.pem|key.pem|tls.certificates: ")
        with running() as d:
            c = self.client(d, context(), port=d.values["tls"])
            shown = c.sock.getpeercert(True)
            c.allocate()
            for what in wrong:
                with self.subTest("reload: " + what):
                    for name in ("cert.pem", "key.pem"):
                        with contextlib.suppress(OSError):
                            os.unlink(os.path.join(d.dir, name))
                    daemon.certificate(d.dir)
                    spoil(d, what)
                    code, text = d.ctl("reload", check=False)
                    self.assertNotEqual(code, 0)
                    self.assertRegex(text, "cert.pem|key.pem|tls.certificates: ")
                    again = self.client(d, context(), port=d.values["tls"])
                    self.assertEqual(again.sock.getpeercert(True), shown)
                    again.close()
                    c.refresh(600)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
