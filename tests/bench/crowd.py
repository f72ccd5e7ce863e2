#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A crowd of TLS clients that come at once, as after an outage of a network: how many handshakes complete.

  crowd.py [--clients N] [--addresses K] [--within S] [--rtt S] [--set PATH=VALUE ...]

Each client makes one attempt, sends its hello as soon as it is connected and gives up after --within seconds;
its answer to the server's flight is --rtt seconds on its way.  The clients share
one process and --addresses source addresses.  The daemon of the build tree (top_builddir) has its default limits but for
those of --set.  Prints how many completed, failed and gave up, and when the last one completed."""
import argparse
import collections
import selectors
import socket
import ssl
import time

import daemon

CONFIG = """
auth: {{ realm: example.org, users: {{ alice: wonderland }} }}
listeners: [ {{ address: 127.0.0.1, port: {port}, transport: tls }} ]
tls: {{ certificates: [ {{ certificate: {dir}/cert.pem, key: {dir}/key.pem }} ] }}
relay: {{ addresses: [ 127.0.0.1 ] }}
process: {{ workers: 2 }}
log: {{ target: stderr }}
"""


class Client:
    """Its hello is made before the crowd begins, so that all can be sent at once."""

    def __init__(self, context, source):
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        self.sock.bind((source, 0))
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.into, self.out, server_hostname="turn.test")
        self.is_done()

    def is_done(self):
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


class Crowd:
    def __init__(self, server, clients, addresses, within, rtt):
        self.server, self.within, self.rtt, self.took, self.failed = server, within, rtt, [], {}
        self.later = collections.deque()                # what the network has on its way
        self.selector, self.waiting = selectors.DefaultSelector(), set()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.clients = [Client(context, "127.%d.%d.1" % (16 + i % addresses // 250, i % addresses % 250))
                        for i in range(clients)]

    def over(self, c, why=None):
        self.waiting.discard(c)
        self.selector.unregister(c.sock)
        if why is None:                                 # a client that is through stays
            self.took.append(time.monotonic() - self.begun)
        else:
            c.sock.close()
            self.failed[why] = self.failed.get(why, 0) + 1

    def go_on(self, c, events):
        try:
            if events & selectors.EVENT_WRITE:
                c.sock.send(c.out.read())
                self.selector.modify(c.sock, selectors.EVENT_READ, c)
                return
            data = c.sock.recv(65536)
            if not data:
                raise ConnectionError("closed")
            c.into.write(data)
            done = c.is_done()
            if c.out.pending:
                self.later.append((time.monotonic() + self.rtt, c, done))
        except OSError as e:
            self.over(c, type(e).__name__)

    def answer(self, c, done):
        if c not in self.waiting:
            return
        try:
            c.sock.send(c.out.read())
        except OSError as e:
            self.over(c, type(e).__name__)
            return
        if done:
            self.over(c)

    def run(self):
        self.begun = time.monotonic()
        for c in self.clients:
            c.sock.connect_ex(self.server)
            self.waiting.add(c)
            self.selector.register(c.sock, selectors.EVENT_WRITE, c)
        while self.waiting:
            for key, events in self.selector.select(0.01):
                self.go_on(key.data, events)
            while self.later and self.later[0][0] <= time.monotonic():
                self.answer(*self.later.popleft()[1:])
            if time.monotonic() > self.begun + self.within:
                for c in list(self.waiting):
                    self.over(c, "gave up")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--clients", type=int, default=5000)
    p.add_argument("--addresses", type=int, default=1)
    p.add_argument("--within", type=float, default=10)
    p.add_argument("--rtt", type=float, default=0.2)
    p.add_argument("--set", action="append", default=[])
    o = p.parse_args()
    d = daemon.Daemon(CONFIG, start=False, args=[w for s in o.set for w in ("--set", s)])
    daemon.certificate(d.dir)
    with d:
        d.start()
        c = Crowd(d.server, o.clients, o.addresses, o.within, o.rtt)
        c.run()
        took = sorted(c.took) or [0]
        print("%d clients of %d addresses: %d completed, half of them after %.1f s, the last after %.1f s; failed: %s" % (
            o.clients, o.addresses, len(c.took), took[len(took) // 2], took[-1],
            ", ".join("%s %d" % f for f in sorted(c.failed.items())) or "none"), flush=True)


if __name__ == "__main__":
    daemon.isolate()
    main()
