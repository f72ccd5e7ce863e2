# SPDX-License-Identifier: BSD-3-Clause
"""A relay that breaks things on purpose and keeps exact books: what turnpike-load must find again.

It speaks as much TURN as a client needs (Allocate without credentials, ChannelBind, CreatePermission, Refresh, ChannelData,
Send and Data).  Every data packet has at most one fate; `plan` gives the fate of the n-th packet of a flow and direction."""
import select
import socket
import struct
import threading

COOKIE = 0x2112A442
UP, DOWN = "up", "down"
FATES = ("drop", "duplicate", "late", "flip", "cut", "stray")
ASTRAY = "astray"		# up: to the peer of another flow; only where flows have several


def xor_address(addr):
    ip = struct.unpack("!I", socket.inet_aton(addr[0]))[0] ^ COOKIE
    return struct.pack("!BBHI", 0, 1, addr[1] ^ (COOKIE >> 16), ip)


def unxor(value):
    port, ip = struct.unpack("!HI", value[2:8])
    return socket.inet_ntoa(struct.pack("!I", ip ^ COOKIE)), port ^ (COOKIE >> 16)


def attribute(kind, value):
    return struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def message(kind, txid, body):
    return struct.pack("!HHI", kind, len(body), COOKIE) + txid + body


def attributes(data):
    out, at = {}, 20
    while at + 4 <= len(data):
        kind, n = struct.unpack("!HH", data[at:at + 4])
        out.setdefault(kind, data[at + 4:at + 4 + n])
        at += 4 + n + (-n % 4)
    return out


class Connection:
    """A client on a stream: frames in, frames out."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""

    def frames(self):
        """Those that are whole now; None when the client has gone."""
        try:
            got = self.sock.recv(65536)
        except OSError:
            got = b""
        if not got:
            return None
        self.buffer += got
        found = []
        while len(self.buffer) >= 4:
            kind, n = struct.unpack("!HH", self.buffer[:4])
            size = 4 + n + (-n % 4) if kind >= 0x4000 else 20 + n
            if len(self.buffer) < size:
                break
            found.append(self.buffer[:size])
            self.buffer = self.buffer[size:]
        return found


class Flow:
    def __init__(self, client):
        self.client, self.peer, self.channel = client, None, None
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind(("127.0.0.1", 0))
        self.number = {UP: 0, DOWN: 0}
        self.held = {UP: None, DOWN: None}


class FaultyRelay(threading.Thread):
    """plan(direction, n) -> one of FATES or None.  books[direction][fate] counts what was really done; `forwarded` all
    packets received from the side that sends."""
    def __init__(self, plan, stream=False):
        super().__init__(daemon=True)
        self.plan, self.flows, self.by_sock = plan, {}, {}
        self.order = []
        self.books = {d: dict.fromkeys(FATES + (ASTRAY, "received"), 0) for d in (UP, DOWN)}
        self.stream, self.connections = stream, {}
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind(("127.0.0.1", 0))
        if stream:
            self.sock.listen(64)
        self.port = self.sock.getsockname()[1]
        self.frozen = set()			# flows that relay nothing any more once the relay had
        self.freeze_after = 0			# so many packets
        self.ended = set()			# flows whose connection ends with their fourth packet up
        self.ending = False

    def run(self):
        poll = select.epoll()
        poll.register(self.sock, select.EPOLLIN)
        while not self.ending:
            events = poll.poll(0.05)
            if not events:
                self.release_all()
            for fd, _ in events:
                if fd == self.sock.fileno() and self.stream:
                    c = Connection(self.sock.accept()[0])
                    self.connections[c.sock.fileno()] = c
                    poll.register(c.sock, select.EPOLLIN)
                elif fd in self.connections:
                    self.from_connection(self.connections[fd], poll)
                elif fd == self.sock.fileno():
                    self.from_client(*self.sock.recvfrom(65535), poll)
                else:
                    self.from_peer(self.by_sock[fd])

    def stop(self):
        self.ending = True
        self.join()
        for s in [self.sock] + [f.sock for f in self.flows.values()] + [c.sock for c in self.connections.values()]:
            s.close()

    # ---- control ----

    def from_connection(self, c, poll):
        frames = c.frames()
        if frames is None:
            poll.unregister(c.sock)
            del self.connections[c.sock.fileno()]
            c.sock.close()
        for frame in frames or ():
            self.from_client(frame, c, poll)

    def to_client(self, data, client):
        if not self.stream:
            self.sock.sendto(data, client)
        elif client.sock.fileno() >= 0:
            try:
                client.sock.sendall(data + b"\0" * (-len(data) % 4))
            except OSError:
                pass			# it has gone

    def from_client(self, data, client, poll):
        flow = self.flows.get(client)
        if data[0] >= 0x40:
            number, n = struct.unpack("!HH", data[:4])
            if flow and number == flow.channel:
                self.packet(flow, UP, data[4:4 + n])
            return
        kind, txid, attr = struct.unpack("!H", data[:2])[0], data[8:20], attributes(data)
        if kind == 0x0016:
            if flow:
                self.packet(flow, UP, attr[0x0013])
            return
        body = b""
        if kind == 0x0003:
            if flow is None:
                flow = self.flows[client] = Flow(client)
                self.order.append(flow)
                self.by_sock[flow.sock.fileno()] = flow
                poll.register(flow.sock, select.EPOLLIN)
            body = attribute(0x0016, xor_address(flow.sock.getsockname())) + attribute(0x000D, struct.pack("!I", 600))
        elif kind in (0x0008, 0x0009):
            flow.peer = unxor(attr[0x0012])
            if kind == 0x0009:
                flow.channel = struct.unpack("!H", attr[0x000C][:2])[0]
        self.to_client(message(kind | 0x0100, txid, body), client)

    def from_peer(self, flow):
        data, peer = flow.sock.recvfrom(65535)
        if peer == flow.peer:
            self.packet(flow, DOWN, data)

    # ---- data ----

    def packet(self, flow, direction, data):
        books = self.books[direction]
        books["received"] += 1
        if self.frozen and self.order.index(flow) in self.frozen and \
                sum(b["received"] for b in self.books.values()) > self.freeze_after:
            books["drop"] += 1
            return
        if direction == UP and self.order.index(flow) in self.ended and flow.number[UP] == 3:
            flow.client.sock.shutdown(socket.SHUT_RDWR)
        fate = self.plan(direction, flow.number[direction])
        flow.number[direction] += 1
        if fate == "late":
            if flow.held[direction] is None:
                flow.held[direction] = data		# counted when it is overtaken
            else:
                self.deliver(flow, direction, data)	# never two at once
            return
        if fate == "drop":
            books[fate] += 1
            return
        if fate == "flip":
            books[fate] += 1
            at = flow.number[direction] % len(data)
            self.send(flow, direction, data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:])
            return
        if fate == "cut":
            books[fate] += 1
            self.send(flow, direction, data[:-4])
            return
        if fate == ASTRAY:
            books[fate] += 1
            flow.sock.sendto(data, next(f.peer for f in self.order if f.peer != flow.peer))
            return
        if fate == "stray":
            books[fate] += 1
            self.send(self.order[(self.order.index(flow) + 1) % len(self.order)], direction, data)
            return
        self.deliver(flow, direction, data)
        if fate == "duplicate":
            books[fate] += 1
            self.send(flow, direction, data)

    def deliver(self, flow, direction, data):
        self.send(flow, direction, data)
        if flow.held[direction] is not None:
            held, flow.held[direction] = flow.held[direction], None
            self.books[direction]["late"] += 1
            self.send(flow, direction, held)

    def release_all(self):
        for flow in self.order:
            for direction in (UP, DOWN):
                if flow.held[direction] is not None:
                    self.send(flow, direction, flow.held[direction])
                    flow.held[direction] = None

    def send(self, flow, direction, data):
        if direction == UP:
            flow.sock.sendto(data, flow.peer)
        elif flow.channel is not None:
            self.to_client(struct.pack("!HH", flow.channel, len(data)) + data, flow.client)
        else:
            body = attribute(0x0012, xor_address(flow.peer)) + attribute(0x0013, data)
            self.to_client(message(0x0017, b"faulty-relay", body), flow.client)
