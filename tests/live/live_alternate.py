#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A full server that lists another: a client of the full one is served by the other; one that comes back gets 508."""
import socket
import struct
import unittest

import daemon
import turnclient as tc

FULL = daemon.DEFAULT + "limits: {{ allocations_total: 1 }}\n"


def alternate(server):
    return "alternate: [ \"%s:%d\" ]\n" % server[:2]


def sent_to(message):
    value = message.get("ALTERNATE_SERVER")
    return socket.inet_ntoa(value[4:8]), struct.unpack("!H", value[2:4])[0]


class Alternate(unittest.TestCase):
    def refused(self, server, code, local=None):
        with tc.Client(server, "alice", "wonderland", local=local) as c:
            with self.assertRaises(tc.TurnError) as e:
                c.allocate()
            self.assertEqual(e.exception.code, code)
            return e.exception.message, c.sock.getsockname()

    def test_full_server_sends_on(self):
        with daemon.Daemon() as other, daemon.Daemon(FULL + alternate(other.server)) as d:
            with tc.Client(d.server, "alice", "wonderland") as first:
                first.allocate()
                message, local = self.refused(d.server, 300)
                self.assertEqual(sent_to(message), tuple(other.server[:2]))
                with tc.Client(sent_to(message), "alice", "wonderland") as c:
                    c.allocate()
                self.refused(d.server, 508, local)	# the same client again
                first.refresh(600)
                d.ctl("restart-workers")		# and the next workers remember it
                self.refused(d.server, 508, local)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main()
