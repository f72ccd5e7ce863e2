#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""How long new clients wait while strangers flood: the time from the first packet to the allocation, over each transport.

  fairness.py [--seconds S] [--floods NAME,...] [--transports NAME,...] [--clients N] [--tcp N] [--bindings N] [--hellos N] [--halves N]

Floods: none; tcp (N connections a second, each sends a Binding request and closes); bindings (N requests a second over UDP);
hellos (N DTLS hellos a second without a cookie); halves (N DTLS handshakes a second that return the cookie and then are silent, from
many addresses).  The daemon of the build tree (top_builddir) with one worker, limits of rates off.
turnpike-load makes one client after the other.  Prints p50 and p99 in milliseconds for each flood and transport, and how many of
a session's datagrams came back."""
import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time

import daemon
import turnclient as tc

BUILD = daemon.TOP_BUILD
CONFIG = daemon.DEFAULT.replace("transport: udp }}", "transport: [ udp, tcp ] }}\n"
                                "  - {{ address: 127.0.0.1, port: {tls}, transport: [ tls, dtls ] }}").replace(
    "workers: 2", "workers: 1") + """
limits: {{ connections_per_prefix: 0, bindings_per_prefix: 0, challenges_per_prefix: 0, handshakes_per_prefix: 0 }}
tls: {{ certificates: [ {{ certificate: {dir}/cert.pem, key: {dir}/key.pem }} ] }}
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


def flood_crowd(mode, server, rate, end):
    """tests/bench/dtls_crowd with so many each second."""
    crowds = []
    while time.monotonic() < end:
        crowds.append(subprocess.Popen([os.path.join(BUILD, "tests", "bench", "dtls_crowd"), mode, "%s:%d" % server, str(rate)],
                                       stdout=subprocess.DEVNULL))
        time.sleep(1)
    for p in crowds:
        p.kill()
        p.wait()
    return rate * len(crowds)


def measure(server, transport, clients):
    command = [os.path.join(BUILD, "src", "prog", "turnpike-load"), "hold", "--server", "%s:%d" % server, "--transport", transport,
               "-u", "alice", "-w", "wonderland", "-n", str(clients), "--setup-window", "1", "-r", "10", "-s", "0.1", "--json"]
    setup = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300, check=False).stdout)["setup"]
    return setup["ready"], setup["latency"]["p50_us"] / 1000, setup["latency"]["p99_us"] / 1000


def start_flood(a, d, kind):
    if kind == "none":
        return None
    port = d.values["tls"] if kind in ("hellos", "halves") else d.port
    rate = {"tcp": a.tcp, "bindings": a.bindings, "hellos": a.hellos, "halves": a.halves}[kind]
    return subprocess.Popen([sys.executable, __file__, "--seconds", str(a.seconds), "--flood", kind, "127.0.0.1", str(port),
                             str(rate)], stdout=subprocess.PIPE, text=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seconds", type=float, default=30, help="longest time of one flood")
    p.add_argument("--floods", default="none,tcp,bindings,hellos,halves")
    p.add_argument("--transports", default="udp,tcp,tls,dtls")
    p.add_argument("--clients", type=int, default=100)
    p.add_argument("--tcp", type=int, default=1000)
    p.add_argument("--bindings", type=int, default=9000)
    p.add_argument("--hellos", type=int, default=9000)
    p.add_argument("--halves", type=int, default=1000)
    p.add_argument("--flood", nargs=4, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.flood:
        kind, host, port, rate = a.flood
        end = time.monotonic() + a.seconds
        if kind in ("hellos", "halves"):
            print(flood_crowd(kind, (host, int(port)), int(rate), end))
        else:
            print((flood_tcp if kind == "tcp" else flood_bindings)((host, int(port)), int(rate), end))
        return
    d = daemon.Daemon(CONFIG, start=False, tls=daemon.free_port(kind=socket.SOCK_STREAM))
    daemon.certificate(d.dir)
    with d:
        d.start()
        for kind in a.floods.split(","):
            session = Session(d.server)
            session.start()
            flood = start_flood(a, d, kind)
            time.sleep(4)
            for transport in a.transports.split(","):
                server = ("127.0.0.1", d.values["tls"] if transport in ("tls", "dtls") else d.port)
                ready, p50, p99 = measure(server, transport, a.clients)
                print("%-9s %-5s new clients %4d  p50 %7.1f ms  p99 %7.1f ms" % (kind, transport, ready, p50, p99), flush=True)
            if flood:
                flood.terminate()
                flood.communicate()
            session.stopping = True
            session.join()
            session.c.close()
            print("%-9s session %d of %d" % (kind, session.back, session.sent), flush=True)


if __name__ == "__main__":
    main()
