#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""HTTPS and turns: share a port behind HAProxy and nginx, with the examples of contrib/proxies as they stand but for ports,
names and paths.

TP_PROXIES names a directory where Debian's packages were unpacked; else what is installed is taken; a proxy that is not
there is skipped."""
import http.server
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest

import daemon
import turnclient as tc

PROXIES = os.environ.get("TP_PROXIES", "")
EXAMPLES = os.path.join(daemon.TOP_SRC, "contrib", "proxies")
CONFIG = daemon.DEFAULT.replace("transport: udp }}", """transport: udp }}
  - {{ address: 127.0.0.1, port: {behind}, transport: tls, proxy_protocol: [ 127.0.0.1/32 ] }}""") + \
    "tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}\n"
WORDS = b"a page beside the relay\n"


def program(name):
    unpacked = os.path.join(PROXIES, "usr/sbin", name)
    if PROXIES and os.access(unpacked, os.X_OK):
        return unpacked
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")


def replaced(text, *pairs):
    for pattern, by in pairs:
        text, n = re.subn(pattern, lambda _, by=by: by, text)
        assert n > 0, "the example has no " + pattern
    return text


def context(alpn=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    if alpn:
        c.set_alpn_protocols([alpn])
    return c


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(WORDS)))
        self.end_headers()
        self.wfile.write(WORDS)

    def log_message(self, *_):
        pass


class Proxies(unittest.TestCase):
    def setUp(self):
        self.front, self.behind, self.web = (daemon.free_port(kind=socket.SOCK_STREAM) for _ in range(3))
        self.d = daemon.Daemon(CONFIG, start=False, behind=self.behind)
        self.addCleanup(shutil.rmtree, self.d.dir, ignore_errors=True)
        self.www = os.path.join(self.d.dir, "www")
        os.mkdir(self.www)
        os.chmod(self.www, 0o755)
        for directory in (self.d.dir, self.www):
            daemon.certificate(directory)
        with open(os.path.join(self.www, "index.html"), "wb") as f:
            f.write(WORDS)
        self.d.start()
        self.addCleanup(self.d.stop)

    def certificate(self, directory):
        with open(os.path.join(directory, "cert.pem")) as f:
            return ssl.PEM_cert_to_DER_cert(f.read())

    def example(self, name, *pairs):
        """The example with other ports; its path."""
        with open(os.path.join(EXAMPLES, name)) as f:
            text = f.read()
        path = os.path.join(self.d.dir, name)
        with open(path, "w") as f:
            f.write(replaced(text, (r"\b443\b", str(self.front)), (r"\b8443\b", str(self.behind)),
                             (r"\b8444\b", str(self.web)), *pairs))
        return path

    def run_proxy(self, argv):
        log = open(os.path.join(self.d.dir, "proxy.log"), "w+b")
        self.addCleanup(log.close)
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def end():
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
                try:
                    p.wait(20)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()
        self.addCleanup(end)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if p.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", self.front), timeout=5).close()
                    return
                except OSError:
                    time.sleep(0.05)
        log.seek(0)
        self.fail("%s does not listen:\n%s" % (argv[0], log.read().decode(errors="replace")))

    def turns(self, local, **kw):
        c = tc.StreamClient(("127.0.0.1", self.front), *tc.rest_credentials(daemon.SECRET, "someone"), local=(local, 0),
                            timeout=20, **kw)
        self.addCleanup(c.close)
        self.assertEqual(c.sock.getpeercert(True), self.certificate(self.d.dir))
        c.allocate()
        self.assertEqual(c.mapped, c.sock.getsockname()[:2])
        self.assertEqual(c.mapped[0], local)
        return c

    def relay(self, c, p):
        for size in (1, 1200, 20000):
            payload = os.urandom(size)
            c.channel_data(0x4000, payload)
            self.assertEqual(p.recv(20), (payload, c.relayed))
            p.send(payload, c.relayed)
            self.assertEqual(c.data(20), (0x4000, payload))

    def page(self, **how):
        raw = socket.create_connection(("127.0.0.1", self.front), timeout=20)
        with context(how.pop("alpn", None)).wrap_socket(raw, **how) as s:
            self.assertEqual(s.getpeercert(True), self.certificate(self.www))
            s.sendall(b"GET / HTTP/1.1\r\nHost: www.example.org\r\nConnection: close\r\n\r\n")
            got = b""
            while True:
                more = s.recv(65536)
                if not more:
                    break
                got += more
        self.assertTrue(got.startswith(b"HTTP/1.") and b" 200 " in got.split(b"\r\n")[0], got)
        self.assertTrue(got.endswith(WORDS), got)

    def check(self):
        for how in ({}, {"server_hostname": "www.example.org"}, {"server_hostname": "www.example.org", "alpn": "http/1.1"}):
            self.page(**how)
        by_name = self.turns("127.0.0.77", tls=context(), name="turn.example.org")
        by_protocol = self.turns("127.0.0.78", tls=context("stun.turn"))
        self.assertEqual(by_protocol.sock.selected_alpn_protocol(), "stun.turn")
        self.assertEqual(self.d.status()["sessions"], 2)
        with daemon.Peer() as p:
            for c in (by_name, by_protocol):
                c.bind(0x4000, p.addr)
                self.relay(c, p)
            before = self.d.children("worker")
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            for c in (by_name, by_protocol):
                c.refresh(600)
                self.relay(c, p)
        by_name.close()
        end = time.monotonic() + 20
        while self.d.status()["sessions"] != 1 and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(self.d.status()["sessions"], 1)
        self.assertIsNotNone(by_protocol.refresh(600))

    def test_haproxy(self):
        haproxy = program("haproxy")
        if haproxy is None:
            self.skipTest("haproxy is not there")
        httpd = http.server.ThreadingHTTPServer(("127.0.0.1", self.web), Page)
        inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        inside.load_cert_chain(os.path.join(self.www, "cert.pem"), os.path.join(self.www, "key.pem"))
        httpd.socket = inside.wrap_socket(httpd.socket, server_side=True)
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        self.addCleanup(httpd.server_close)
        self.addCleanup(httpd.shutdown)
        cfg = self.example("haproxy.cfg", ("maxconn 20000", "maxconn 200"))
        self.run_proxy([haproxy, "-db", "-f", cfg])
        self.check()

    def test_nginx(self):
        nginx = program("nginx")
        module = os.path.join(PROXIES or "/", "usr/lib/nginx/modules/ngx_stream_module.so")
        if nginx is None or not os.path.exists(module):
            self.skipTest("nginx with its stream module is not there")
        scratch = "".join("\t%s_temp_path %s/%s;\n" % (kind, self.d.dir, kind)
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        conf = self.example(
            "nginx.conf", ("(?m)^user .*$", ""), ("(?m)^worker_processes.*$", ""), ("(?m)^pid .*$", "pid %s/nginx.pid;" % self.d.dir),
            ("(?m)^include .*$", 'load_module "%s";' % module), ("worker_connections 20000", "worker_connections 200"),
            ("(?m)^http {\n", "http {\n\taccess_log off;\n" + scratch), ("/etc/ssl/certs/www.pem", self.www + "/cert.pem"),
            ("/etc/ssl/private/www.key", self.www + "/key.pem"), ("/var/www/html", self.www))
        self.run_proxy([nginx, "-e", "stderr", "-p", self.d.dir, "-c", conf, "-g", "daemon off; master_process off;"])
        self.check()


if __name__ == "__main__":
    if program("haproxy") is None and program("nginx") is None:
        print("skipped: neither HAProxy nor nginx is there")
        sys.exit(77)
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
