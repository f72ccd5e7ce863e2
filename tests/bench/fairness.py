#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""How long new clients wait while strangers flood: the time from the first request to the allocation, over UDP.

  fairness.py [--seconds S] [--floods NAME,...] [--tcp N] [--bindings N]

Floods: none, tcp (N connections a second, each sends a Binding request and closes), bindings (N requests a second over UDP).  The
daemon of the build tree (top_builddir) with one worker, limits of rates off.  Prints p50 and p99 in milliseconds for each
flood, and how many of the session's datagrams came back."""
import argparse
import socket
import subprocess
import sys
import threading
import time

import daemon
import turnclient as tc

CONFIG = daemon.DEFAULT.replace("transport: udp }}", "transport: [ udp, tcp ] }}").replace("workers: 2", "workers: 1") + """
limits: {{ connections_per_prefix: 0, bindings_per_prefix: 0, challenges_per_prefix: 0 }}
"""
BINDING = tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab")


def paced(rate, end, step):
    """Calls step(n) with as many as are due."""
    start, done = time.monotonic(), 0
    while time.monotonic() < end:
        due = int((time.monotonic() - start) * rate) - done
        if due > 0:
            step(due)
            done += due
        time.sleep(0.001)
    return done


def flood_tcp(server, rate, end):
    waiting = []

    def step(n):
        for _ in range(n):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(server)
            waiting.append((time.monotonic(), s))
        while waiting and waiting[0][0] < time.monotonic() - 0.2:
            s = waiting.pop(0)[1]
            try:
                s.send(BINDING)
            except OSError:
                pass
            s.close()
    return paced(rate, end, step)


def flood_bindings(server, rate, end):
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(64)]
    for s in socks:
        s.connect(server)
        s.setblocking(False)

    def step(n):
        for i in range(n):
            try:
                socks[i % 64].send(BINDING)
                socks[i % 64].recv(2048)
            except OSError:
                pass
    return paced(rate, end, step)


class Session(threading.Thread):
    """An established client whose peer echoes: 100 datagrams a second."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.peer = daemon.Peer()
        self.c = tc.Client(server, "bob", "builder")
        self.c.allocate()
        self.c.bind(0x4000, self.peer.addr)
        self.sent = self.back = 0
        self.stopping = False

    def run(self):
        while not self.stopping:
            self.c.channel_data(0x4000, b"x" * 100)
            self.sent += 1
            try:
                data, src = self.peer.sock.recvfrom(2048)
                self.peer.send(data, src)
                self.back += self.c.recv_raw(1.0) is not None
            except OSError:
                pass
            time.sleep(0.01)


def measure(server, end):
    times = []
    while time.monotonic() < end:
        c = tc.Client(server, "alice", "wonderland")
        c.RESEND = 0.5
        start = time.monotonic()
        c.allocate()
        times.append((time.monotonic() - start) * 1000)
        c.close()
        time.sleep(0.02)
    return sorted(times)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seconds", type=float, default=6)
    p.add_argument("--floods", default="none,tcp,bindings")
    p.add_argument("--tcp", type=int, default=1000)
    p.add_argument("--bindings", type=int, default=9000)
    p.add_argument("--flood", nargs=4, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.flood:
        kind, host, port, rate = a.flood
        call = flood_tcp if kind == "tcp" else flood_bindings
        print(call((host, int(port)), int(rate), time.monotonic() + a.seconds))
        return
    with daemon.Daemon(CONFIG) as d:
        for kind in a.floods.split(","):
            flood, session = None, Session(d.server)
            session.start()
            if kind != "none":
                rate = a.tcp if kind == "tcp" else a.bindings
                flood = subprocess.Popen([sys.executable, __file__, "--seconds", str(a.seconds + 1), "--flood", kind,
                                          d.server[0], str(d.server[1]), str(rate)], stdout=subprocess.PIPE, text=True)
                time.sleep(0.5)
            times = measure(d.server, time.monotonic() + a.seconds)
            made = int(flood.communicate()[0]) if flood else 0
            session.stopping = True
            session.join()
            session.c.close()
            print("%-9s flood %6d  new clients %4d  p50 %7.1f ms  p99 %7.1f ms  session %d of %d" % (
                kind, made, len(times), times[len(times) // 2], times[len(times) * 99 // 100], session.back,
                session.sent), flush=True)


if __name__ == "__main__":
    main()
