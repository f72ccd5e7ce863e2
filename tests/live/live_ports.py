#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The relay range: all of it is usable from every shard, and comes back when allocations end."""
import os
import signal
import time
import unittest

import daemon
import turnclient as tc

CONFIG = daemon.DEFAULT.replace("workers: 2", "workers: 2, shards: 4").replace(
    "addresses: [ 127.0.0.1 ]", "addresses: [ 127.0.0.1 ]\n  ports: 50000-50019")


class Ports(unittest.TestCase):
    def test_whole_range(self):
        with daemon.Daemon(CONFIG) as d:
            for _ in range(3):
                clients = [tc.Client(d.server, "alice", "wonderland") for _ in range(20)]
                for c in clients:
                    c.allocate()
                self.assertEqual(sorted(c.relayed[1] for c in clients), list(range(50000, 50020)))
                with tc.Client(d.server, "alice", "wonderland") as extra:
                    with self.assertRaises(tc.TurnError) as e:
                        extra.allocate()
                    self.assertEqual(e.exception.code, 508)
                self.assertEqual(d.ctl("verify")[0], 0)
                for c in clients:
                    c.refresh(0)
                    c.close()
            self.assertTrue(daemon.until(lambda: d.status()["sessions"] == 0))

    def test_even_ports_to_the_last(self):
        with daemon.Daemon(CONFIG.replace("50000-50019", "50000-50007")) as d:
            clients = [tc.Client(d.server, "alice", "wonderland") for _ in range(4)]
            for c in clients:
                c.allocate(tc.attr("EVEN_PORT", b"\0"))
            self.assertEqual(sorted(c.relayed[1] for c in clients), [50000, 50002, 50004, 50006])
            with tc.Client(d.server, "alice", "wonderland") as extra:
                with self.assertRaises(tc.TurnError) as e:
                    extra.allocate(tc.attr("EVEN_PORT", b"\0"))
                self.assertEqual(e.exception.code, 508)
                extra.allocate()

    def test_sockets_serve_again(self):
        """Relay sockets rest between two allocations; they give way when the range is needed, and outlive worker and image."""
        config = CONFIG.replace("workers: 2, shards: 4", "workers: 1, shards: 1").replace("50000-50019", "50000-50399")
        with daemon.Daemon(config) as d:
            with tc.Client(d.server, "alice", "wonderland") as c:
                for turn in range(3):
                    last = {}
                    for i in range(120):
                        c.allocate()
                        port = c.relayed[1]
                        self.assertGreater(i - last.get(port, -1000), 12, "port %d again" % port)
                        last[port] = i
                        c.refresh(0)
                    if turn == 0 and d.counter("resting_sockets") == 0:
                        self.skipTest("no shared filter: CAP_BPF is not ours")
                    self.assertGreater(d.counter("relay_sockets_again"), 0)
                    self.assertEqual(d.ctl("verify")[0], 0)
                    if turn == 0:
                        worker, = d.children("worker")
                        os.kill(worker, signal.SIGKILL)
                        self.assertTrue(daemon.until(lambda: set(d.children("worker")) - {worker} and d.ready()))
                    elif turn == 1:
                        d.ctl("upgrade")
                clients = [tc.Client(d.server, "alice", "wonderland") for _ in range(400)]
                for one in clients:
                    one.allocate()
                self.assertEqual(sorted(one.relayed[1] for one in clients), list(range(50000, 50400)))
                with self.assertRaises(tc.TurnError) as e:
                    c.allocate()
                self.assertEqual(e.exception.code, 508)
                self.assertEqual(d.ctl("verify")[0], 0)
                for one in clients:
                    one.close()

    def test_unused_reservation_comes_back(self):
        """CVE-2026-73215: the odd sibling of EVEN-PORT must not be lost."""
        with daemon.Daemon(CONFIG.replace("50000-50019", "50000-50001")) as d:
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate(tc.attr("EVEN_PORT", b"\x80"))
                with tc.Client(d.server, "alice", "wonderland") as other:
                    with self.assertRaises(tc.TurnError) as e:
                        other.allocate()
                    self.assertEqual(e.exception.code, 508)
                time.sleep(30)

                def there():
                    with tc.Client(d.server, "alice", "wonderland") as other:
                        try:
                            other.allocate()
                        except tc.TurnError as e:
                            self.assertEqual(e.code, 508)
                            return False
                        self.assertEqual(other.relayed[1], 50001)
                        return True
                self.assertTrue(daemon.until(there))


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
