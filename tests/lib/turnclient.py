# SPDX-License-Identifier: BSD-3-Clause
"""A STUN/TURN codec and client written apart from the C one, so that a mistake is not shared by both sides.

RFC 8489, RFC 8656.  Only the standard library.  Blocking sockets; every wait has a time-out.
"""
import base64
import hashlib
import hmac
import ipaddress
import os
import socket
import struct
import time
import zlib

COOKIE = 0x2112A442
REQUEST, INDICATION, SUCCESS, ERROR = 0, 1, 2, 3
BINDING, ALLOCATE, REFRESH, SEND, DATA, CREATE_PERMISSION, CHANNEL_BIND = 1, 3, 4, 6, 7, 8, 9
A = dict(
    MAPPED_ADDRESS=0x1, USERNAME=0x6, MESSAGE_INTEGRITY=0x8, ERROR_CODE=0x9, UNKNOWN_ATTRIBUTES=0xA,
    CHANNEL_NUMBER=0xC, LIFETIME=0xD, XOR_PEER_ADDRESS=0x12, DATA=0x13, REALM=0x14, NONCE=0x15,
    XOR_RELAYED_ADDRESS=0x16, REQUESTED_ADDRESS_FAMILY=0x17, EVEN_PORT=0x18, REQUESTED_TRANSPORT=0x19,
    DONT_FRAGMENT=0x1A, MESSAGE_INTEGRITY_SHA256=0x1C, PASSWORD_ALGORITHM=0x1D, USERHASH=0x1E,
    XOR_MAPPED_ADDRESS=0x20, RESERVATION_TOKEN=0x22, ADDITIONAL_ADDRESS_FAMILY=0x8000,
    ADDRESS_ERROR_CODE=0x8001, PASSWORD_ALGORITHMS=0x8002, ICMP=0x8004, SOFTWARE=0x8022,
    ALTERNATE_SERVER=0x8023, FINGERPRINT=0x8028)
NAMES = {v: k for k, v in A.items()}


def message_type(method, cls):
    return (method & 0xF) | ((method & 0x70) << 1) | ((method & 0xF80) << 2) | ((cls & 1) << 4) | ((cls & 2) << 7)


def split_type(t):
    method = (t & 0xF) | ((t & 0xE0) >> 1) | ((t & 0x3E00) >> 2)
    return method, ((t >> 4) & 1) | ((t >> 7) & 2)


def attr(name, value=b""):
    number = A[name] if isinstance(name, str) else name
    return struct.pack("!HH", number, len(value)) + value + b"\0" * (-len(value) % 4)


def xor_address(addr, txid):
    ip = ipaddress.ip_address(addr[0])
    key = struct.pack("!I", COOKIE) + txid
    return struct.pack("!BBH", 0, 1 if ip.version == 4 else 2, addr[1] ^ (COOKIE >> 16)) + \
        bytes(a ^ b for a, b in zip(ip.packed, key))


def unxor_address(value, txid):
    _, family, port = struct.unpack("!BBH", value[:4])
    key = struct.pack("!I", COOKIE) + txid
    raw = bytes(a ^ b for a, b in zip(value[4:], key))
    assert len(raw) == {1: 4, 2: 16}[family]
    return str(ipaddress.ip_address(raw)), port ^ (COOKIE >> 16)


def fingerprint(message_so_far):
    return (zlib.crc32(message_so_far) & 0xFFFFFFFF) ^ 0x5354554E


def build(method, cls, txid, attrs=b"", key=None, sha256=False, fp=False, both=False):
    """Header, attributes, integrity with `key` (SHA-1, or SHA-256, or both), FINGERPRINT."""
    def header(extra):
        return struct.pack("!HHI", message_type(method, cls), len(attrs) + extra, COOKIE) + txid
    if key is not None and (not sha256 or both):
        mac = hmac.new(key, header(24) + attrs, hashlib.sha1).digest()
        attrs += attr("MESSAGE_INTEGRITY", mac)
    if key is not None and (sha256 or both):
        mac = hmac.new(key, header(36) + attrs, hashlib.sha256).digest()
        attrs += attr("MESSAGE_INTEGRITY_SHA256", mac)
    if fp:
        attrs += attr("FINGERPRINT", struct.pack("!I", fingerprint(header(8) + attrs)))
    return header(0) + attrs


class Message:
    def __init__(self, raw):
        self.raw = raw
        t, length, cookie = struct.unpack("!HHI", raw[:8])
        assert t < 0x4000 and cookie == COOKIE and length + 20 == len(raw) and length % 4 == 0, raw.hex()
        self.method, self.cls = split_type(t)
        self.txid = raw[8:20]
        self.attrs, off = [], 20
        while off < len(raw):
            number, n = struct.unpack("!HH", raw[off:off + 4])
            value = raw[off + 4:off + 4 + n]
            assert len(value) == n
            pad = raw[off + 4 + n:off + 4 + n + (-n % 4)]
            assert pad == b"\0" * len(pad), "padding not zero"
            self.attrs.append((number, value, off))
            off += 4 + n + (-n % 4)

    def get(self, name):
        for number, value, _ in self.attrs:
            if number == A[name]:
                return value
        return None

    def has(self, name):
        return self.get(name) is not None

    @property
    def code(self):
        v = self.get("ERROR_CODE")
        return None if v is None else v[2] * 100 + v[3]

    def address(self, name):
        v = self.get(name)
        return None if v is None else unxor_address(v, self.txid)

    def addresses(self, name):
        return [unxor_address(v, self.txid) for n, v, _ in self.attrs if n == A[name]]

    @property
    def lifetime(self):
        return struct.unpack("!I", self.get("LIFETIME"))[0]

    def signed_by(self, key):
        """Which integrity attribute verifies: 'sha1', 'sha256' or None."""
        for number, value, off in self.attrs:
            for name, size, fn, label in ((A["MESSAGE_INTEGRITY"], 24, hashlib.sha1, "sha1"),
                                          (A["MESSAGE_INTEGRITY_SHA256"], 4 + len(value), hashlib.sha256, "sha256")):
                if number == name:
                    head = self.raw[:2] + struct.pack("!H", off + size - 20) + self.raw[4:off]
                    if hmac.compare_digest(hmac.new(key, head, fn).digest()[:len(value)], value):
                        return label
        return None


def rest_credentials(secret, user, lifetime=3600, algorithm=hashlib.sha1, now=None):
    if isinstance(secret, str):
        secret = secret.encode()
    name = "%d:%s" % ((now or time.time()) + lifetime, user) if user else "%d" % ((now or time.time()) + lifetime)
    return name, base64.b64encode(hmac.new(secret, name.encode(), algorithm).digest()).decode()


class TurnError(Exception):
    def __init__(self, message):
        super().__init__("%s" % message.code)
        self.message = message
        self.code = message.code


class Client:
    """One 5-tuple over UDP.  `timeout` is for what must come: long, because a slow machine is no failure."""
    RESEND = 2.0                 # seconds between retransmissions: rather too long, each may show in a counter

    def __init__(self, server, user=None, password=None, local=None, timeout=20.0, sha256=False):
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if local:
            self.sock.bind(local)
        self.sock.connect(server)
        self.timeout = timeout
        self.user, self.password = user, password
        self.realm = self.nonce = None
        self.sha256 = sha256
        self.algorithms = None
        self.inbox = []          # data that came while waiting for a response: (peer or channel, payload)
        self.relayed = self.mapped = None
        self.lifetime = None

    def close(self):
        """Frees the allocation, too: the kernel may soon give this port, and so this 5-tuple, to another client (437)."""
        if self.sock.fileno() >= 0 and self.relayed and self.nonce:
            try:
                self.once(REFRESH, attr("LIFETIME", b"\0\0\0\0"), timeout=3.0)
            except OSError:
                pass
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def key(self):
        text = ("%s:%s:%s" % (self.user, self.realm, self.password)).encode()
        return hashlib.sha256(text).digest() if self.sha256 else hashlib.md5(text).digest()

    def raw(self, data):
        self.sock.send(data)

    def recv_raw(self, timeout=None):
        self.sock.settimeout(self.timeout if timeout is None else timeout)
        try:
            return self.sock.recv(65536)
        except (socket.timeout, BlockingIOError):
            return None

    def wait(self, txid, timeout=None):
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            left = end - time.monotonic()
            data = self.recv_raw(max(left, 0.001)) if left > 0 else None
            if data is None:
                return None
            if data[0] < 4:
                m = Message(data)
                if m.txid == txid and m.cls in (SUCCESS, ERROR):
                    return m
            self._keep(data)

    def _keep(self, data):
        if 0x40 <= data[0] < 0x80:
            number, n = struct.unpack("!HH", data[:4])
            self.inbox.append((number, data[4:4 + n]))
        elif data[0] < 4:
            m = Message(data)
            if m.method == DATA and m.cls == INDICATION:
                self.inbox.append((m.address("XOR_PEER_ADDRESS"), m.get("DATA"), m.get("ICMP")))

    def data(self, timeout=None):
        """Next (channel number or peer address, payload[, icmp]) or None."""
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self.inbox:
            left = end - time.monotonic()
            got = self.recv_raw(left) if left > 0 else None
            if got is None:
                return None
            self._keep(got)
        return self.inbox.pop(0)

    def auth_attrs(self):
        a = attr("USERNAME", self.user.encode()) + attr("REALM", self.realm.encode()) + attr("NONCE", self.nonce)
        if self.sha256:
            a += attr("PASSWORD_ALGORITHMS", self.algorithms) + attr("PASSWORD_ALGORITHM", b"\0\2\0\0")
        return a

    def over(self):
        """Nothing will come any more."""
        return False

    def once(self, method, attrs=b"", txid=None, signed=True, fp=False, timeout=None, resend=None):
        """One request as it stands; with retransmissions until `timeout`, or `resend` times with `timeout` after each; the
        response or None."""
        txid = txid or os.urandom(12)
        attrs = attrs(txid) if callable(attrs) else attrs
        if signed and self.nonce is not None:
            raw = build(method, REQUEST, txid, attrs + self.auth_attrs(), self.key, self.sha256, fp)
        else:
            raw = build(method, REQUEST, txid, attrs, fp=fp)
        timeout = self.timeout if timeout is None else timeout
        gap = self.RESEND if resend is None else timeout
        end, self.sends = time.monotonic() + timeout * (resend or 1), 0
        while True:
            self.raw(raw)
            self.sends += 1
            left = end - time.monotonic()
            m = self.wait(txid, min(left, gap))
            if m is not None or left <= gap or self.over():
                return m

    def request(self, method, attrs=b"", **kw):
        """Goes through 401 and 438; returns the final response whatever it is."""
        m = self.once(method, attrs, **kw)
        for _ in range(2):
            if m is None or m.code not in (401, 438) or self.user is None:
                break
            if m.code == 401 and self.nonce is not None and kw.get("signed", True):
                break
            self.realm = m.get("REALM").decode()
            self.nonce = m.get("NONCE")
            self.algorithms = m.get("PASSWORD_ALGORITHMS")
            m = self.once(method, attrs, **kw)
        return m

    def must(self, method, attrs=b"", **kw):
        m = self.request(method, attrs, **kw)
        if m is None:
            raise TimeoutError("no answer")
        if m.cls != SUCCESS:
            raise TurnError(m)
        return m

    def binding(self, **kw):
        m = self.once(BINDING, signed=False, **kw)
        return m and m.address("XOR_MAPPED_ADDRESS")

    def allocate(self, extra=b"", lifetime=None, **kw):
        a = attr("REQUESTED_TRANSPORT", b"\x11\0\0\0") + extra
        if lifetime is not None:
            a += attr("LIFETIME", struct.pack("!I", lifetime))
        m = self.must(ALLOCATE, a, **kw)
        self.relayed = m.address("XOR_RELAYED_ADDRESS")
        self.mapped = m.address("XOR_MAPPED_ADDRESS")
        self.lifetime = m.lifetime
        return m

    def refresh(self, lifetime=None, **kw):
        try:
            return self.must(REFRESH, b"" if lifetime is None else attr("LIFETIME", struct.pack("!I", lifetime)), **kw)
        except TurnError as e:
            if lifetime == 0 and e.code == 437 and self.sends > 1:
                return e.message        # the first one was heard, its answer lost: RFC 8656 8.3
            raise

    def permit(self, *peers, **kw):
        return self.must(CREATE_PERMISSION,
                         lambda txid: b"".join(attr("XOR_PEER_ADDRESS", xor_address(p, txid)) for p in peers), **kw)

    def bind(self, number, peer, **kw):
        return self.must(CHANNEL_BIND, lambda txid: attr("CHANNEL_NUMBER", struct.pack("!HH", number, 0)) +
                         attr("XOR_PEER_ADDRESS", xor_address(peer, txid)), **kw)

    def send_indication(self, peer, payload, extra=b""):
        txid = os.urandom(12)
        self.raw(build(SEND, INDICATION, txid, attr("XOR_PEER_ADDRESS", xor_address(peer, txid)) + extra + attr("DATA", payload)))

    def channel_data(self, number, payload):
        self.raw(struct.pack("!HH", number, len(payload)) + payload)


class StreamClient(Client):
    """One connection: TCP, or TLS when a context is given.  Nothing is retransmitted."""
    RESEND = float("inf")

    def __init__(self, server, user=None, password=None, local=None, timeout=30.0, sha256=False, tls=None, name=None,
                 header=b"", connect_timeout=30.0):
        sock = socket.create_connection(server, timeout=connect_timeout, source_address=local)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if header:
            sock.sendall(header)
        self.sock = tls.wrap_socket(sock, server_hostname=name) if tls else sock
        self.timeout = timeout
        self.user, self.password = user, password
        self.realm = self.nonce = None
        self.sha256 = sha256
        self.algorithms = None
        self.inbox = []
        self.relayed = self.mapped = None
        self.lifetime = None
        self.buffer = b""
        self.ended = False

    def close(self):
        self.sock.close()

    def raw(self, data):
        self.sock.settimeout(self.timeout)
        self.sock.sendall(data)

    def channel_data(self, number, payload):
        self.raw(struct.pack("!HH", number, len(payload)) + payload + b"\0" * (-len(payload) % 4))

    def frame(self):
        """A whole frame of what has come, or None."""
        if len(self.buffer) < 4:
            return None
        kind, n = struct.unpack("!HH", self.buffer[:4])
        size = 20 + n if kind < 0x4000 else 4 + n + (-n % 4)
        assert kind < 0x5000, self.buffer[:32].hex()
        if len(self.buffer) < size:
            return None
        frame, self.buffer = self.buffer[:size], self.buffer[size:]
        return frame if kind < 0x4000 else frame[:4 + n]

    def recv_raw(self, timeout=None):
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            frame = self.frame()
            left = end - time.monotonic()
            if frame is not None or left <= 0 or self.ended:
                return frame
            self.sock.settimeout(left)
            try:
                got = self.sock.recv(65536)
            except (socket.timeout, BlockingIOError):
                return None
            except OSError:
                got = b""
            if not got:
                self.ended = True
            self.buffer += got

    def is_closed(self, within=30.0):
        """Waits for the other end to close; True when it did, without a byte before."""
        got = self.recv_raw(within)
        return got is None and self.ended and not self.buffer
