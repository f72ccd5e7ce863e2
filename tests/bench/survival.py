#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""make bench-survival: how long no worker serves after a death, what is lost, how fast a successor scans and the daemon stops.

  survival.py [--flows N] [--rate PPS] [--kills N] [--pairs N] [--affinity none,auto]

turnpike-load holds the flows at the rate; a probe flow of each shard sends one packet a millisecond or two.  The gap of a
death is the longest time that a packet of the probes took in the half second after the kill: what is sent while no
worker serves waits in the kernel.  The values of io.cpu_affinity take turns (A B A B ...).  Loopback, in a network namespace."""
import argparse
import json
import os
import random
import re
import resource
import signal
import statistics
import struct
import subprocess
import sys
import threading
import time

import daemon
import turnclient as tc

PROG = os.path.join(daemon.TOP_BUILD, "src", "prog")
CONFIG = daemon.DEFAULT.replace("workers: 2", "workers: 2, shards: 4") + \
    "io: {{ cpu_affinity: {affinity} }}\nlimits: {{ challenges_per_prefix: 0, allocations_per_user: 0 }}\n"


class Probe(threading.Thread):
    """One flow per shard; `seen` has (time of sending, time under way)."""

    def __init__(self, d):
        super().__init__(daemon=True)
        self.peer, self.clients, self.seen, self.sent, self.ended = daemon.Peer(), [], [], 0, threading.Event()
        self.peer.sock.setblocking(False)
        shards, spare = {}, []
        while len(shards) < 4:
            c = tc.Client(d.server, "alice", "wonderland")
            c.allocate()
            port = ":%d" % c.sock.getsockname()[1]
            of = {x["client"]: x["id"].split(".")[0] for x in json.loads(d.ctl("sessions", as_json=True)[1])["sessions"]}
            shard = next(i for k, i in of.items() if k.endswith(port))
            (spare.append(c) if shard in shards else shards.update({shard: c}))
        for c in spare:
            c.refresh(0)
            c.sock.close()
        for n, c in enumerate(shards.values()):
            c.bind(0x4000 + n, self.peer.addr)
            self.clients.append(c)

    def take(self):
        while True:
            try:
                data = self.peer.sock.recv(2048)
            except BlockingIOError:
                return
            at = struct.unpack("!d", data[:8])[0]
            self.seen.append((at, time.monotonic() - at))

    def run(self):
        n = 0
        while not self.ended.is_set():
            for k in range(2):
                n += 1
                self.clients[n % 4].channel_data(0x4000 + n % 4, struct.pack("!d", time.monotonic()))
                self.sent += 1
            time.sleep(0.001)
            self.take()
        time.sleep(0.3)
        self.take()

    def longest(self, start, end):
        return 1000 * max((took for at, took in list(self.seen) if start <= at < end), default=float("nan"))


def wait_ready(d):
    end = time.monotonic() + 30
    while not d.ready():
        if time.monotonic() > end:
            sys.exit("not ready again:\n" + d.text()[-2000:])
        time.sleep(0.02)


def hold(d, o, seconds):
    p = subprocess.Popen([os.path.join(PROG, "turnpike-load"), "hold", "--server", "127.0.0.1:%d" % d.port, "--secret",
                          daemon.SECRET, "-n", str(o.flows), "--rate", str(o.rate), "--setup-window", "32", "-s",
                          "%.1f" % seconds, "--stopped-after", str(max(2, 6 * o.flows / o.rate)), "--json", "-q"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while d.status()["sessions"] < o.flows:
        if p.poll() is not None or time.monotonic() > end:
            p.kill()
            sys.exit("turnpike-load: " + p.communicate()[1])
        time.sleep(0.1)
    time.sleep(0.5)
    return p


def episode(d, probe, act):
    start = time.monotonic()
    act()
    time.sleep(0.5)
    gap = probe.longest(start - 0.005, start + 0.5)
    wait_ready(d)
    return gap


def turn(affinity, o):
    """One daemon: kills of one worker, then planned replacements, then its end."""
    with daemon.Daemon(CONFIG, affinity=affinity) as d:
        probe, load = Probe(d), None
        load = hold(d, o, (o.kills + o.rolls) * 0.75 + 2)
        probe.start()
        time.sleep(0.5)
        idle = probe.longest(0, time.monotonic())
        kills = [episode(d, probe, lambda: os.kill(random.choice(list(d.children("worker"))), signal.SIGKILL))
                 for _ in range(o.kills)]
        rolls = [episode(d, probe, lambda: d.ctl("restart-workers")) for _ in range(o.rolls)]
        probe.ended.set()
        probe.join()
        report = json.loads(load.communicate(timeout=300)[0])
        t = time.monotonic()
        d.stop()
        stop = 1000 * (time.monotonic() - t)
    sides = (report["up"], report["down"])
    return {"idle": idle, "kills": kills, "rolls": rolls, "stop": stop, "sent": sum(s["sent"] for s in sides),
            "lost": sum(s["lost"] for s in sides) + probe.sent - len(probe.seen), "stopped": report["stopped"],
            "bad": sum(s["damaged"] + s["misdelivered"] for s in sides)}


def p99(values):
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def show(affinity, turns):
    kills, rolls = sum((t["kills"] for t in turns), []), sum((t["rolls"] for t in turns), [])
    print("| %s | %d | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %d of %d | %d | %d | %.0f |" % (
        affinity, len(kills), statistics.median(t["idle"] for t in turns), statistics.median(kills), p99(kills), max(kills),
        statistics.median(rolls), max(rolls), sum(t["lost"] for t in turns), sum(t["sent"] for t in turns),
        sum(t["stopped"] for t in turns), sum(t["bad"] for t in turns), max(t["stop"] for t in turns)), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 500
    for name, value in (("flows", min(10000, most)), ("rate", 20000), ("kills", 25), ("rolls", 5), ("pairs", 4)):
        p.add_argument("--" + name, type=int, default=value)
    p.add_argument("--affinity", default="none")
    o = p.parse_args()
    values = o.affinity.split(",")
    print("%d flows, %d packets/s, load average %.1f at the beginning\n" % (o.flows, o.rate, os.getloadavg()[0]))
    turns = {a: [] for a in values}
    for _ in range(o.pairs):
        for a in values:
            turns[a].append(turn(a, o))
    print("| cpu_affinity | kills | no kill, ms | gap: median | p99 | most | planned: median | most | packets lost | sessions stopped "
          "| bad | end, most ms |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
    for a in values:
        show(a, turns[a])
    scan = os.path.join(daemon.TOP_BUILD, "tests", "bench", "bench_state")
    out = subprocess.run([scan, "1000000"], stdout=subprocess.PIPE, text=True, check=True).stdout
    adopt = [float(x) for x in re.findall(r"shard_adopt:\s+([0-9.]+) ms", out)]
    print("\nsuccessor's scan of 1,000,000 sessions: %s ms" % ", ".join("%.0f" % x for x in adopt))


if __name__ == "__main__":
    daemon.isolate()
    main()
