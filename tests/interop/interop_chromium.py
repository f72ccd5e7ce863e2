#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Headless Chromium: two RTCPeerConnections with iceTransportPolicy "relay" exchange data through the relay over UDP, TCP
and TLS, while workers are killed.

Runs in a network namespace with one made-up interface, because browsers gather no candidates on loopback."""
import base64
import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import daemon
import turnclient as tc

HOST = "10.77.0.1"
CONFIG = daemon.DEFAULT.replace("listeners:", "listeners:\n  - {{ address: 10.77.0.1, port: {port}, transport: [ udp, tcp, tls ] }}").replace(
    "addresses: [ 127.0.0.1 ]", "addresses: [ 10.77.0.1 ]").replace("wonderland", "not-an-example-of-the-manual") + \
    "tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}\n"
PAGE = """<!doctype html><title>relay</title><script>
const ice = %(ice)s, total = %(total)d;
const report = (o) => fetch('/result', {method: 'POST', body: JSON.stringify(o)});
const progress = (n) => fetch('/progress', {method: 'POST', body: String(n)});
(async () => {
  try {
    const conf = {iceServers: [ice], iceTransportPolicy: 'relay'};
    const a = new RTCPeerConnection(conf), b = new RTCPeerConnection(conf);
    let disconnects = 0;
    const types = new Set();
    for (const [x, y] of [[a, b], [b, a]]) {
      x.onicecandidate = (e) => {
        if (e.candidate && e.candidate.candidate) types.add(e.candidate.type);
        y.addIceCandidate(e.candidate).catch(() => {});
      };
      x.oniceconnectionstatechange = () => {
        if (['disconnected', 'failed', 'closed'].includes(x.iceConnectionState)) disconnects++;
      };
    }
    b.ondatachannel = (e) => { e.channel.onmessage = (m) => e.channel.send(m.data); };
    const ch = a.createDataChannel('x');
    let got = 0, bad = 0;
    ch.onmessage = (m) => { if (m.data !== 'message ' + got) bad++; got++; };
    const opened = new Promise((r) => { ch.onopen = r; });
    await a.setLocalDescription(await a.createOffer());
    await b.setRemoteDescription(a.localDescription);
    await b.setLocalDescription(await b.createAnswer());
    await a.setRemoteDescription(b.localDescription);
    await opened;
    progress(0);
    for (let i = 0; i < total; i++) {
      ch.send('message ' + i);
      if (i %% 20 === 0) progress(i);
      await new Promise((r) => setTimeout(r, 20));
    }
    const end = Date.now() + 10000;
    while (got < total && Date.now() < end) await new Promise((r) => setTimeout(r, 50));
    report({got, bad, disconnects, types: [...types], state: a.iceConnectionState});
  } catch (e) { report({error: String(e)}); }
})();
</script>"""


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.server.page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/result":
            self.server.result = json.loads(body)
            self.server.done.set()
        elif self.path == "/progress":
            self.server.opened.set()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def pin(directory):
    """What Chromium calls the key of the self-signed certificate there."""
    def openssl(*argv, data=None):
        return subprocess.run(["openssl", *argv], input=data, check=True, stdout=subprocess.PIPE).stdout
    public = openssl("x509", "-in", os.path.join(directory, "cert.pem"), "-pubkey", "-noout")
    return base64.b64encode(hashlib.sha256(openssl("pkey", "-pubin", "-outform", "DER", data=public)).digest()).decode()


def browse(ice, total, wait, during=None, spki=None):
    """Opens the page and returns what it reported; `during` runs once the data channel is open.  Chromium verifies the
    certificate of turns:; `spki` is the one key it may overlook the unknown issuer and the name of."""
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    httpd.page = PAGE % {"ice": json.dumps(ice), "total": total}
    httpd.done, httpd.opened, httpd.result = threading.Event(), threading.Event(), None
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    profile = tempfile.mkdtemp(prefix="tp-chromium-")
    argv = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
            *(["--ignore-certificate-errors-spki-list=" + spki] if spki else []),
            "--user-data-dir=" + profile, "http://127.0.0.1:%d/" % httpd.server_address[1]]
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        if during is not None and httpd.opened.wait(wait):
            during()
        httpd.done.wait(wait)
        return httpd.result
    finally:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()
        httpd.shutdown()
        shutil.rmtree(profile, ignore_errors=True)


class Chromium(unittest.TestCase):
    def ice(self, d, transport="udp", scheme="turn"):
        user, password = tc.rest_credentials(daemon.SECRET, "browser")
        return {"urls": "%s:%s:%d?transport=%s" % (scheme, HOST, d.port, transport), "username": user, "credential": password}

    def check(self, d, result, total):
        self.assertIsNotNone(result, "the page reported nothing\n" + d.text()[-3000:])
        self.assertNotIn("error", result)
        self.assertEqual(result["types"], ["relay"])
        self.assertEqual((result["got"], result["bad"], result["disconnects"]), (total, 0, 0))
        self.assertGreater(d.counter("relayed_packets"), 2 * total)

    def started(self, config=CONFIG, **values):
        d = daemon.Daemon(config, start=False, **values)
        daemon.certificate(d.dir)
        return d.start()

    def of_transport(self, d, name):
        """`during`: both ends are clients of this transport."""
        self.assertEqual([s["transport"] for s in json.loads(d.ctl("sessions", as_json=True)[1])["sessions"]], [name] * 2)

    def test_data_channel(self):
        with self.started() as d:
            self.check(d, browse(self.ice(d), 50, 60, lambda: self.of_transport(d, "udp")), 50)

    def test_data_channel_over_tcp(self):
        with self.started() as d:
            self.check(d, browse(self.ice(d, "tcp"), 50, 60, lambda: self.of_transport(d, "tcp")), 50)

    def test_data_channel_over_tls(self):
        with self.started() as d:
            self.check(d, browse(self.ice(d, "tcp", "turns"), 50, 60, lambda: self.of_transport(d, "tls"), pin(d.dir)), 50)

    def test_data_channel_across_killed_workers(self):
        with self.started() as d:
            def kill():
                for _ in range(5):
                    time.sleep(0.5)
                    for pid in d.children("worker"):
                        os.kill(pid, signal.SIGKILL)
            self.check(d, browse(self.ice(d), 200, 60, kill), 200)

    def test_data_channel_across_everything(self):
        self.everything("udp")

    def test_data_channel_over_tcp_across_everything(self):
        self.everything("tcp", "tcp")

    def test_data_channel_over_tls_across_everything(self):
        self.everything("tls", "tcp", "turns")

    def everything(self, name, *how):
        """kill -9 of all workers, a reload, a resize up and down, an upgrade: one data channel, no disconnect."""
        config = CONFIG.replace("workers: 2", "workers: {workers}, shards: 4")
        with self.started(config, workers=2) as d:
            def during():
                self.of_transport(d, name)
                time.sleep(0.5)
                for pid in d.children("worker"):
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.5)
                d.write(config + "limits: {{ allocations_per_user: 1000 }}\n")
                self.assertIn("applied now", d.ctl("reload")[1])
                for workers in (4, 1):
                    time.sleep(0.5)
                    d.values["workers"] = workers
                    d.write(config)
                    self.assertIn("%d workers replaced" % workers, d.ctl("reload")[1])
                time.sleep(0.5)
                self.assertIn("upgraded", d.ctl("upgrade")[1])
            self.check(d, browse(self.ice(d, *how), 250, 60, during, pin(d.dir)), 250)


def main():
    if shutil.which("chromium") is None:
        print("skipped: chromium is not there")
        sys.exit(77)
    daemon.isolate()
    if not os.environ.get("TP_NETNS"):
        print("skipped: no network namespace can be made here")
        sys.exit(77)
    for words in ("link add tp0 type veth peer name tp1", "addr add %s/24 dev tp0" % HOST, "link set tp0 up", "link set tp1 up",
                  "route add default dev tp0"):
        if subprocess.run(["ip", *words.split()]).returncode != 0:
            print("skipped: cannot make the test interface")
            sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")


if __name__ == "__main__":
    main()
