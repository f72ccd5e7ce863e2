# SPDX-License-Identifier: BSD-3-Clause
"""Sessions that are looked at byte for byte while others kill: over TCP and TLS every request is answered exactly once and in
order; over DTLS no record number comes twice, nothing is answered twice, nothing is changed, and what is lost is counted.
All of them: relayed data comes at most once, unchanged, and only to its receiver."""
import os
import random
import selectors
import ssl
import struct
import time

import daemon
import turnclient as tc

CHANNEL = 0x4000
RENEW = 60              # seconds: permissions last 300, allocations and channels 600
BOUND, REFRESHED, NOT_BOUND, NOT_REFRESHED = 0x0109, 0x0104, 0x0119, 0x0114
WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Seen:
    """Which numbers came."""

    def __init__(self):
        self.bits, self.count = bytearray(1024), 0

    def add(self, i):
        """False: not for the first time."""
        if i >= len(self.bits):
            self.bits.extend(bytes(max(1024, i + 1 - len(self.bits))))
        if self.bits[i]:
            return False
        self.bits[i] = 1
        self.count += 1
        return True


class Flow:
    def __init__(self, number, client, seed, window):
        self.number, self.c, self.rnd, self.window = number, client, random.Random(seed), window
        self.p = daemon.Peer()
        self.p.sock.setblocking(False)
        client.allocate()
        client.bind(CHANNEL, self.p.addr)
        client.sock.setblocking(False)
        self.asked = self.latest = self.sent = 0        # latest: the highest answered request + 1
        self.answered, self.heard, self.echoed = Seen(), Seen(), Seen()
        self.mark, self.shape, self.error = None, None, None
        self.renewed = time.monotonic()
        self.resting = False            # asks for nothing new until all others have their answer, too

    def request(self):
        raw = tc.build(tc.BINDING, tc.REQUEST, struct.pack("!III", 7, self.number, self.asked))
        self.asked += 1
        return raw

    def renewal(self):
        """Now and then: the requests that keep permission, channel and allocation."""
        if time.monotonic() - self.renewed < RENEW:
            return []
        self.renewed = time.monotonic()
        out = []
        for method, attrs in ((tc.CHANNEL_BIND, lambda t: tc.attr("CHANNEL_NUMBER", struct.pack("!HH", CHANNEL, 0)) + tc.attr(
                "XOR_PEER_ADDRESS", tc.xor_address(self.p.addr, t))), (tc.REFRESH, lambda t: b"")):
            txid = os.urandom(12)
            out.append(tc.build(method, tc.REQUEST, txid, attrs(txid) + self.c.auth_attrs(), self.c.key))
        return out

    def check_renewal(self, kind, raw):
        if kind in (NOT_BOUND, NOT_REFRESHED):
            m = tc.Message(raw)
            if m.code != 438:
                raise ValueError("not renewed: %s" % m.code)
            self.c.nonce, self.renewed = m.get("NONCE"), 0.0

    def payload(self):
        n = self.rnd.choice((0, 3, 60, 200, 1100))
        data = struct.pack("!II", self.number, self.sent) + bytes([self.sent & 255]) * n
        self.sent += 1
        return data

    def check_answer(self, raw):
        """Number i; all but the transaction id is the same each time."""
        seven, number, i = struct.unpack("!III", raw[8:20])
        shape = raw[:8] + raw[20:]
        if self.shape is None:
            self.shape = shape
        if seven != 7 or number != self.number or i >= self.asked or shape != self.shape:
            raise ValueError("not an answer of flow %d: %s" % (self.number, raw.hex()))
        if not self.answered.add(i):
            raise ValueError("request %d is answered twice" % i)
        self.latest = max(self.latest, i + 1)
        if self.mark is not None:
            self.resting = self.latest > self.mark
        return i

    def check_data(self, data, seen, where):
        number, i = struct.unpack("!II", data[:8])
        if number != self.number or i >= self.sent or data[8:] != bytes([i & 255]) * (len(data) - 8):
            raise ValueError("%s: data of flow %d, number %d: %s" % (where, number, i, data[:40].hex()))
        if not seen.add(i):
            raise ValueError("%s: number %d comes twice" % (where, i))
        return i

    def peer(self):
        while True:
            try:
                data, src = self.p.sock.recvfrom(65536)
            except BlockingIOError:
                return
            if src[:2] != self.c.relayed:
                raise ValueError("the peer hears %s" % (src,))
            self.check_data(data, self.heard, "the peer")
            self.p.send(data, self.c.relayed)

    def lost_data(self):
        return self.sent - self.echoed.count


class StreamFlow(Flow):
    """Cut anywhere.  A wide one asks for much and does not read all the time: its answers wait in rings."""

    def __init__(self, number, client, seed, wide=False, update=None):
        super().__init__(number, client, seed, 8 if wide else 4 if number % 7 == 0 else 1)
        self.wide, self.update, self.deaf, self.updated = wide, update, 0, 0.0
        self.out, self.piece, self.buffer = bytearray(), None, client.buffer

    def go_on(self):
        while not self.resting and self.asked - self.latest < self.window and len(self.out) < 4096:
            data = self.payload()
            self.out += b"".join(self.renewal()) + struct.pack("!HH", CHANNEL, len(data)) + data + b"\0" * (-len(data) % 4) + self.request()
        self.write()

    def write(self):
        while self.out:
            if self.piece is None:      # what a TLS library did not take it wants to see again
                self.piece = bytes(self.out[:self.rnd.choice((1, 7, 100, 1500, 5000))])
            if self.update and self.rnd.random() < 0.01 and time.monotonic() - self.updated > 4:     # 32 a minute are allowed
                self.c.sock.update(self.rnd.random() < 0.5)
                self.updated = time.monotonic()
            try:
                n = self.c.sock.send(self.piece)
            except WAIT:
                return
            del self.out[:n]
            self.piece = None
            if self.rnd.random() < 0.3:
                return

    def nudge(self):
        self.deaf = 0
        self.go_on()

    def read(self):
        if self.deaf > 0:
            self.deaf -= 1
            return
        if self.wide and self.rnd.random() < 0.02:
            self.deaf = self.rnd.randrange(20)
        try:
            got = b""
            for _ in range(16):         # records
                more = self.c.sock.recv(65536)
                if not more:
                    raise OSError("closed by the server")
                got += more
        except WAIT:
            if not got:
                return
        self.buffer += got
        at = 0
        while len(self.buffer) - at >= 4:
            kind, n = struct.unpack_from("!HH", self.buffer, at)
            size = 20 + n if kind < 0x4000 else 4 + n + (-n % 4)
            if kind not in (0x0101, CHANNEL, BOUND, REFRESHED, NOT_BOUND, NOT_REFRESHED):
                raise ValueError("out of step: " + self.buffer[at:at + 16].hex())
            if len(self.buffer) - at < size:
                break
            self.frame(kind, self.buffer[at:at + size], n)
            at += size
        self.buffer = self.buffer[at:]
        self.go_on()

    def frame(self, kind, raw, n):
        if kind == 0x0101:
            want = self.latest
            if self.check_answer(raw) != want:
                raise ValueError("an answer comes before number %d" % want)
        elif kind != CHANNEL:
            self.check_renewal(kind, raw)
        else:
            self.check_data(raw[4:4 + n], self.echoed, "the client")

    def lost(self):
        return 0                        # or finished() is false

    def finished(self):
        return not self.out and self.latest == self.asked


class DtlsFlow(Flow):
    """Records may be lost; some are sent twice, at once or later, as a network does."""

    def __init__(self, number, client, seed):
        super().__init__(number, client, seed, 4 if number % 4 == 0 else 1)
        self.numbers, self.under_way, self.kept, self.replays = Seen(), set(), [], 0

    def emit(self):
        self.under_way.add(self.asked)
        data = self.payload()
        for text in (*self.renewal(), struct.pack("!HH", CHANNEL, len(data)) + data, self.request()):
            record = self.c.dtls.seal(text)
            self.c.datagram(record)
            if self.rnd.random() < 0.06:
                self.kept.append(record)
        if self.kept and self.rnd.random() < 0.1:
            self.replays += 1
            self.c.datagram(self.kept.pop(self.rnd.randrange(len(self.kept))))
            del self.kept[:-4]

    def go_on(self):
        while not self.resting and len(self.under_way) < self.window:
            self.emit()

    def nudge(self):
        """What has not come by now is lost, or comes late."""
        self.under_way.clear()
        self.emit()

    def read(self):
        while True:
            try:
                datagram = self.c.sock.recv(65536)
            except BlockingIOError:
                break
            kind, version, epoch, number = struct.unpack("!BHHQ", datagram[:5] + b"\0\0" + datagram[5:11])
            if kind != 23 or version != 0xfefd or epoch != 1:
                raise ValueError("not a record of data: " + datagram[:16].hex())
            if not self.numbers.add(number):
                raise ValueError("record number %d comes twice" % number)
            text = self.c.dtls.open(datagram)
            if text is None:
                raise ValueError("record %d is refused" % number)
            self.frame(text)
        self.go_on()

    def frame(self, text):
        kind, n = struct.unpack("!HH", text[:4])
        if kind == 0x0101 and len(text) == 20 + n:
            self.under_way.discard(self.check_answer(text))
        elif kind == CHANNEL and len(text) == 4 + n:
            self.check_data(text[4:], self.echoed, "the client")
        elif kind in (BOUND, REFRESHED, NOT_BOUND, NOT_REFRESHED) and len(text) == 20 + n:
            self.check_renewal(kind, text)
        else:
            raise ValueError("neither answer nor data: " + text[:16].hex())

    def lost(self):
        return self.asked - self.answered.count

    def finished(self):
        return True


class Play:
    """All flows in one loop; all waits happen in it."""

    def __init__(self, flows):
        self.flows, self.ending = flows, False
        self.selector = selectors.DefaultSelector()
        for f in flows:
            self.selector.register(f.c.sock, selectors.EVENT_READ, (f, f.read))
            self.selector.register(f.p.sock, selectors.EVENT_READ, (f, f.peer))
        self.round = 0.0

    def guard(self, f, call):
        if f.error is None:
            try:
                call()
            except (OSError, ValueError) as e:
                f.error = "flow %d, %s: %s" % (f.number, type(f).__name__, e)

    def broken(self):
        return [f.error for f in self.flows if f.error]

    def step(self):
        for key, _ in self.selector.select(0.005):
            self.guard(*key.data)
        if time.monotonic() - self.round > 0.02:        # only a pace
            for f in self.flows:
                if isinstance(f, StreamFlow):
                    self.guard(f, f.write if self.ending else f.go_on)
            self.round = time.monotonic()
        if self.broken():
            raise AssertionError("; ".join(self.broken()))

    def until(self, condition, what, within=120):
        end, look = time.monotonic() + within, 0.0
        while True:
            self.step()
            if time.monotonic() - look > 0.004:
                if condition():
                    return
                look = time.monotonic()
            if time.monotonic() > end:
                raise AssertionError("not within %d s: %s" % (within, what() if callable(what) else what))

    def rest(self):
        """What is under way comes; nothing new is asked before prove()."""
        for f in self.flows:
            f.resting = True

    def prove(self, what="a flow does not go on"):
        """Each flow gets an answer to something that it asks from now on; then all go on at once."""
        nudged = time.monotonic()
        for f in self.flows:
            f.mark, f.resting = f.asked, False
            self.guard(f, f.nudge)
        left = list(self.flows)

        def all_did():
            nonlocal left, nudged
            left = [f for f in left if not f.resting]
            if left and time.monotonic() - nudged > 0.03:
                for f in left:
                    self.guard(f, f.nudge)
                nudged = time.monotonic()
            return not left
        self.until(all_did, lambda: "%s: %s" % (what, [f.number for f in left]))
        for f in self.flows:
            f.mark, f.resting = None, False
            self.guard(f, f.go_on)

    def finish(self, lossless=False):
        """Nothing new is asked; all that is still to come comes."""
        self.ending = True
        for f in self.flows:
            f.window = f.deaf = 0
        self.until(lambda: all(f.finished() for f in self.flows), "streams do not end in order")
        if lossless:
            self.until(lambda: not any(f.lost() + f.lost_data() for f in self.flows), lambda: "lost: %s" % [
                (f.number, f.lost(), f.lost_data()) for f in self.flows if f.lost() + f.lost_data()])
        quiet, last = time.monotonic(), None
        while time.monotonic() - quiet < 0.3:           # what is under way arrives
            self.step()
            now = sum(f.echoed.count + f.answered.count for f in self.flows)
            if now != last:
                quiet, last = time.monotonic(), now
