#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""make bench-workers: what a second worker costs each packet, on two processors that also carry the load.

  workers.py [--pairs N] [--seconds S] [--cpus A,B] [--out FILE.md]

With two processors a second worker cannot be given one of its own, so the rate that two reach says nothing.  What two workers
could lose to each other is time per packet: cache lines that both write, locks, one worker's wake-ups.  So the same open-loop
rate (far below saturation: batches are as they are, whatever else happens) is given to each worker in three arrangements
by turns, and the servers' processor time per relayed packet is compared:

  alone   one server with one worker on A; load on B
  apart   two servers with one worker each, on A and B, which share nothing of ours; a load for each on the other processor
  shared  one server with two workers on A and B; the same two loads, both to it

`apart` and `shared` differ in nothing but that the workers are of one server: shared / apart is what sharing costs.  Two
workers do 2 / (shared / apart) times the work of one: the goal of 1.9 is a ratio of at most 1.053."""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import time

import bench

RATES = {1: 25000, 16: 150000}           # by R; to each worker
FLOWS = 200
EDGE = 1                                 # seconds before and after: set-up, end


class Pinned(bench.Turnpike):
    """Each worker on its own processor; the other processes with the first."""
    def __init__(self, name, cpus, net):
        super().__init__(name, cpus, net)
        self.workers, self.affinity = len(cpus.split(",")), cpus


def command(server, run, seconds, cpu):
    return [*server.net.load_side, "taskset", "-c", cpu, bench.LOAD, "relay", "-S", server.where(), *server.args, "-n", str(FLOWS),
            "-R", str(run), "-d", "both", "-r", str(RATES[run]), "-s", str(seconds), "--warmup", "0", "--json"]


def used_ns(servers):
    """Exact, where /proc/PID/stat counts ticks of 10 ms."""
    total = 0
    for s in servers:
        for pid in bench.tree(s.process.pid):
            for path in glob.glob("/proc/%d/task/*/schedstat" % pid):
                try:
                    with open(path) as f:
                        total += int(f.read().split()[0])
                except OSError:
                    pass
    return total


def relayed(servers):
    total = 0
    for s in servers:
        r = subprocess.run([os.path.join(bench.BUILD, "src", "prog", "turnpikectl"), "--runtime-dir", os.path.join(s.dir, "run"),
                            "--json", "counters"], stdout=subprocess.PIPE, check=True)
        total += sum(n for name, n in json.loads(r.stdout).items() if name.startswith("relayed_packets"))
    return total


def measure(targets, run, seconds, cpus):
    """targets[i] is loaded from the processor that is not its worker's.  Microseconds per packet in the middle of the run,
    loss, and did the load keep up."""
    servers = list(dict.fromkeys(targets))
    loads = [subprocess.Popen(command(t, run, seconds + 2 * EDGE, cpus[1 - i]), stdout=subprocess.PIPE, text=True)
             for i, t in enumerate(targets)]
    time.sleep(EDGE)
    packets, used = relayed(servers), used_ns(servers)
    time.sleep(seconds)
    used = used_ns(servers) - used
    packets = relayed(servers) - packets
    reports = [json.loads(p.communicate(timeout=60 + seconds)[0]) for p in loads]
    got, sent = (sum(r[d][key] for r in reports for d in ("up", "down")) for key in ("delivered", "sent"))
    ready = sum(r["setup"]["ready"] for r in reports)
    if ready != FLOWS * len(targets):
        sys.exit("only %d of %d allocations" % (ready, FLOWS * len(targets)))
    return used / packets / 1e3, (sent - got) / sent, not any(r["steps"][0]["load_limited"] for r in reports)


def table(o, out):
    cpus = o.cpus.split(",")
    net = bench.Net("lo")
    one, two, both = Pinned("turnpike", cpus[0], net), Pinned("turnpike", cpus[1], net), Pinned("turnpike", o.cpus, net)
    arrangements = {"alone": [one], "apart": [one, two], "shared": [both, both]}
    out("\n## A second worker: the same rate to each\n\nOpen loop, 120 bytes, %d flows and one rate to each worker, both directions; "
        "CPU of all server processes per relayed packet, medians of %d turns of %g s, processors %s.  `alone`: one worker; "
        "`apart`: two servers of one worker each; `shared`: one server of two workers.\n" % (FLOWS, o.pairs, o.seconds, o.cpus))
    out("| R | packets/s to each | alone | apart | shared | shared / apart (quartiles) | two do the work of | loss |\n"
        "|---|---|---|---|---|---|---|---|")
    try:
        for s in (one, two, both):
            s.start()
        for run in RATES:
            found = {name: [] for name in arrangements}
            lost, kept = [], True
            for turn in range(o.pairs + 1):
                for name, targets in arrangements.items():
                    us, loss, ok = measure(targets, run, o.seconds if turn else 0.3, cpus)
                    if turn:
                        found[name].append(us)
                        lost.append(loss)
                        kept &= ok
            ratios = sorted(s / a for s, a in zip(found["shared"], found["apart"]))
            mid, n = statistics.median(ratios), len(ratios)
            out("| %d | %d | %s | %.3f (%.3f-%.3f) | %.2f | %.2g %%%s |" % (
                run, RATES[run], " | ".join("%.2f us" % statistics.median(found[k]) for k in ("alone", "apart", "shared")), mid,
                ratios[n // 4], ratios[-1 - n // 4], 2 / mid, 100 * statistics.median(lost),
                "" if kept else "; the load could not keep up"))
    finally:
        for s in (one, two, both):
            s.stop()
        net.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pairs", type=int, default=7, help="turns that count (7)")
    p.add_argument("--seconds", type=float, default=3, help="length of one measurement (3)")
    p.add_argument("--cpus", default="0,1", help="the processors of the two workers")
    p.add_argument("--out", help="Markdown is written here too")
    o = p.parse_args()
    lines = []

    def out(text):
        print(text, flush=True)
        lines.append(text)
    out("# Bench\n\n%s\n\n`%s`" % (bench.machine(), " ".join(["workers.py", *sys.argv[1:]])))
    table(o, out)
    if o.out:
        with open(o.out, "w") as f:
            f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
