#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every I/O engine relays the same bytes, also of clients and peers whose datagrams arrive merged; and a reload changes
the engine without losing a session."""
import json
import os
import re
import socket
import struct
import unittest

import daemon
import turnclient as tc

UDP_SEGMENT = 103
CONFIG = daemon.DEFAULT.replace("workers: 2", "workers: 1") + "io: {{ engine: {engine}, cpu_affinity: {affinity} }}\n"


def burst(sock, to, datagrams):
    """Datagrams of one length (the last may be shorter) in one send: on loopback they stay merged."""
    sock.sendmsg([b"".join(datagrams)], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", len(datagrams[0])))], 0, to)


class Engine(unittest.TestCase):
    def start(self, engine, affinity="none"):
        d = daemon.Daemon(CONFIG, engine=engine, affinity=affinity)
        self.addCleanup(d.stop)
        return d

    def call(self, d):
        c, p = tc.Client(d.server, "alice", "wonderland"), daemon.Peer()
        self.addCleanup(c.close)
        self.addCleanup(p.close)
        c.allocate()
        c.bind(0x4001, p.addr)
        return c, p

    def bursts(self, d, c, p, channel=True):
        for size, count, last in ((120, 30, 120), (120, 30, 7), (1000, 20, 1000), (33, 2, 1), (16, 60, 16)):
            payloads = [bytes([i + 1]) * (size if i + 1 < count else last) for i in range(count)]
            frames = [struct.pack(">HH", 0x4001, len(x)) + x for x in payloads] if channel else \
                [tc.build(tc.SEND, tc.INDICATION, os.urandom(12), tc.attr("XOR_PEER_ADDRESS", tc.xor_address(p.addr, b"")) +
                          tc.attr("DATA", x)) for x in payloads]
            burst(c.sock, d.server, frames)
            for x in payloads:
                self.assertEqual(p.recv(), (x, c.relayed))
            burst(p.sock, c.relayed, payloads)
            for x in payloads:
                got = c.data()
                self.assertEqual(got if channel else got[:2], (0x4001, x) if channel else (p.addr, x))

    def test_bursts(self):
        for engine in ("plain", "mmsg", "gso"):
            with self.subTest(engine):
                d = self.start(engine)
                c, p = self.call(d)
                worker = [x for x in d.status()["processes"] if x["process"] == "worker"][0]
                self.assertEqual(worker["engine"], engine)
                self.assertIsNone(worker["cpu"])
                self.bursts(d, c, p)
                merged = d.counter("receive_merged"), d.counter("send_merged")
                if engine == "gso":
                    self.assertGreater(min(merged), 0)
                    self.assertGreater(d.counter("receive_merged_packets"), d.counter("receive_merged"))
                else:
                    self.assertEqual(merged, (0, 0))
                self.assertEqual(d.counter("listener_drops"), 0)
                self.assertEqual(d.drops("length") + d.drops("no_channel") + d.drops("truncated"), 0)

    def test_indications_of_bursts(self):
        d = self.start("gso")
        c, p = tc.Client(d.server, "alice", "wonderland"), daemon.Peer()
        self.addCleanup(c.close)
        self.addCleanup(p.close)
        c.allocate()
        c.permit(p.addr)
        self.bursts(d, c, p, channel=False)
        self.assertGreater(d.counter("send_merged"), 0)

    def test_reload_changes_the_engine(self):
        d = self.start("gso")
        c, p = self.call(d)
        for engine in ("plain", "gso", "mmsg", "auto"):
            with open(d.config) as f:
                text = f.read()
            with open(d.config, "w") as f:
                f.write(re.sub("engine: [a-z]+", "engine: " + engine, text))
            d.ctl("reload")

            def in_use():
                s = d.status()
                return s["ready"] and [x.get("engine") for x in s["processes"] if x["process"] == "worker"]
            want = [engine.replace("auto", "gso")]
            self.assertTrue(daemon.until(lambda: in_use() == want), (in_use(), want))
            self.bursts(d, c, p)
        self.assertEqual(d.status()["sessions"], 1)

    def test_buffers(self):
        """What may not be had is said, with the sysctl; at a reload too."""
        class Limited(daemon.Daemon):
            def command(self):
                drop = ["setpriv", "--bounding-set", "-net_admin"] if os.geteuid() == 0 else []
                return [*drop, *super().command()]
        config = CONFIG.replace("io: {{", "io: {{ receive_buffer: {receive}, send_buffer: {send},")
        d = Limited(config, engine="auto", affinity="none", receive="1GiB", send="128KiB")
        self.addCleanup(d.stop)
        said = r"io\.%s: \d+ of %d bytes granted per listener: sysctl -w net\.core\.%s=%d"
        wanted = said % ("receive_buffer", 1 << 30, "rmem_max", 1 << 30)
        self.assertTrue(daemon.until(lambda: re.search(wanted, d.text())), d.text())
        self.assertNotIn("io.send_buffer", d.text())
        with open(d.config) as f:
            text = f.read()
        with open(d.config, "w") as f:
            f.write(text.replace("send_buffer: 128KiB", "send_buffer: 512MiB"))
        d.ctl("reload")
        wanted = said % ("send_buffer", 1 << 29, "wmem_max", 1 << 29)
        self.assertTrue(daemon.until(lambda: re.search(wanted, d.text())), d.text()[-2000:])

    def test_occupancy(self):
        """The histograms: one look at a burst, in the metrics and in `turnpikectl counters`."""
        d = self.start("gso")
        c, p = self.call(d)
        frames = [struct.pack(">HH", 0x4001, 100) + bytes([i]) * 100 for i in range(20)]
        burst(c.sock, d.server, frames)
        for _ in frames:
            self.assertIsNotNone(p.recv())
        burst(p.sock, c.relayed, [bytes([i]) * 100 for i in range(12)])
        for _ in range(12):
            self.assertIsNotNone(c.data())
        rows = ['%s_segments{to="%d"}' % (name, to) for name in ("receive", "send") for to in (32, 16)]

        def counted():          # behind the datagrams themselves
            counters = json.loads(d.ctl("counters", as_json=True)[1])
            return all(counters.get(row, 0) >= 1 for row in rows) and \
                sum(n for k, n in counters.items() if k.startswith("shard_packets")) >= 32
        self.assertTrue(daemon.until(counted), d.ctl("counters")[1])
        self.assertGreaterEqual(daemon.reach(lambda: d.counter("shard_packets"), 32), 32)
        self.assertGreaterEqual(daemon.reach(lambda: d.counter("host_udp_received"), 32), 32)
        metrics = d.http("/metrics")[1]
        for line in ('turnpike_send_segments_bucket{worker="0",le="+Inf"} ', "turnpike_host_udp_receive_buffer_errors_total ",
                     'turnpike_accept_backlog{worker="0"} ', 'turnpike_send_no_buffer_total{worker="0"} '):
            self.assertIn("\n" + line, metrics)

    def test_pinned(self):
        cpu = min(os.sched_getaffinity(0))
        d = self.start("auto", '"%d"' % cpu)
        (pid,) = d.children("worker")
        self.assertEqual(os.sched_getaffinity(pid), {cpu})
        worker = [x for x in d.status()["processes"] if x["process"] == "worker"][0]
        self.assertEqual(worker["cpu"], cpu)
        c, p = self.call(d)
        c.channel_data(0x4001, b"x")
        self.assertEqual(p.recv(), (b"x", c.relayed))


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
