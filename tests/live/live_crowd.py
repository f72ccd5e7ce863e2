#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""TLS clients that come at once all get through, with the default limits: an office behind one address, and a network that
comes back.  More of them than handshakes may be in progress; a client in its turn does not lose its place to a newer one."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
import crowd                    # noqa: E402
import daemon                   # noqa: E402

CLIENTS = int(os.environ.get("TP_CROWD", 5000))         # a daemon with 20,000 files takes 18,000


class AtOnce(unittest.TestCase):
    def all_complete(self, addresses, rtt):
        d = daemon.Daemon(crowd.CONFIG, start=False, args=["--set", "limits.handshake_timeout=120s"])
        daemon.certificate(d.dir)
        with d:
            d.start()
            c = crowd.Crowd(d.server, CLIENTS, addresses, 240, rtt)
            self.addCleanup(lambda: [x.sock.close() for x in c.clients])
            c.run()
            self.assertEqual((len(c.took), c.failed), (CLIENTS, {}), d.text()[-2000:])

    def test_one_address(self):
        self.all_complete(1, 0.5)

    def test_an_address_each(self):
        self.all_complete(CLIENTS, 1.0)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
