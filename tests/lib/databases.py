# SPDX-License-Identifier: BSD-3-Clause
"""Real database servers for tests, each in a directory and on a port of its own, ended by pid."""
import contextlib
import glob
import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time

import daemon

REALM = "example.org"
TABLES = """
CREATE TABLE turnusers_lt (realm varchar(127) DEFAULT '', name varchar(512), hmackey char(128), PRIMARY KEY (realm, name));
CREATE TABLE turn_secret (realm varchar(127) DEFAULT '', value varchar(256), PRIMARY KEY (realm, value));
CREATE TABLE allowed_peer_ip (realm varchar(127) DEFAULT '', ip_range varchar(256), PRIMARY KEY (realm, ip_range));
CREATE TABLE denied_peer_ip (realm varchar(127) DEFAULT '', ip_range varchar(256), PRIMARY KEY (realm, ip_range));
CREATE TABLE turn_origin_to_realm (origin varchar(127), realm varchar(127), PRIMARY KEY (origin));
CREATE TABLE turn_realm_option (realm varchar(127) DEFAULT '', opt varchar(32), value varchar(128), PRIMARY KEY (realm, opt));
"""


def hmackey(name, password, realm=REALM):
    return hashlib.md5(("%s:%s:%s" % (name, realm, password)).encode()).hexdigest()


def quoted(text):
    """As SQL: for servers that take no backslash in a string."""
    return "'" + text.replace("'", "''") + "'"


def as_other():
    """The servers refuse to run as root.  The group stays: some machines let only root's use /dev/null."""
    return ["setpriv", "--reuid=nobody", "--regid=root", "--clear-groups"] if os.geteuid() == 0 else []


class Server:
    """start(), kill(), stop(); sql() or command() speaks to it as its operator does."""
    type = name = None

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="tp-db-")
        os.chmod(self.dir, 0o755)
        self.port = daemon.free_port(kind=socket.SOCK_STREAM)
        self.process = None
        if os.geteuid() == 0:
            shutil.chown(self.dir, "nobody", "nogroup")
        self.prepare()
        self.start()

    def prepare(self):
        pass

    def start(self):
        self.log = open(os.path.join(self.dir, "server.log"), "ab")
        self.process = subprocess.Popen(as_other() + self.command_line(), stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, cwd=self.dir)
        if not daemon.until(self.answers):
            with open(os.path.join(self.dir, "server.log"), errors="replace") as f:
                raise RuntimeError("%s does not start:\n%s" % (self.type, f.read()[-2000:]))

    def answers(self):
        try:
            self.ping()
            return True
        except (OSError, subprocess.CalledProcessError):
            return False

    def kill(self, sig=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(60)
        if getattr(self, "log", None):
            self.log.close()

    def freeze(self):
        """Nothing of it runs: its connections stay open, without answers."""
        for pid in [self.process.pid, *self.children()]:
            os.kill(pid, signal.SIGSTOP)

    def children(self):
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as f:
            return [int(x) for x in f.read().split()]

    def thaw(self):
        for pid in [*self.children(), self.process.pid]:
            os.kill(pid, signal.SIGCONT)

    def stop(self):
        with contextlib.suppress(OSError):
            self.thaw()
        self.kill(signal.SIGINT if self.type == "postgresql" else signal.SIGTERM)
        self.log.close()
        if not os.environ.get("TP_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)

    def add_user(self, name, password, realm=REALM):
        self.sql("INSERT INTO turnusers_lt (realm, name, hmackey) VALUES (%s, %s, '%s')" %
                 (quoted(realm), quoted(name), hmackey(name, password, realm)))

    def delete_user(self, name, realm=REALM):
        self.sql("DELETE FROM turnusers_lt WHERE realm = %s AND name = %s" % (quoted(realm), quoted(name)))

    def add_secret(self, value, realm=REALM):
        self.sql("INSERT INTO turn_secret (realm, value) VALUES (%s, %s)" % (quoted(realm), quoted(value)))

    def add_range(self, kind, value, realm=""):
        self.sql("INSERT INTO %s_peer_ip (realm, ip_range) VALUES (%s, %s)" % (kind, quoted(realm), quoted(value)))

    def clear_ranges(self):
        self.sql("DELETE FROM denied_peer_ip")
        self.sql("DELETE FROM allowed_peer_ip")

    def clear_options(self):
        self.sql("DELETE FROM turn_realm_option")

    def set_option(self, opt, value, realm=REALM):
        self.sql("INSERT INTO turn_realm_option (realm, opt, value) VALUES (%s, %s, %s)" %
                 (quoted(realm), quoted(opt), quoted(str(value))))


class Postgres(Server):
    type = "postgresql"

    @staticmethod
    def bin(program):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/" + program))
        return found[-1] if found else None

    @classmethod
    def is_there(cls):
        return cls.bin("postgres") is not None

    def prepare(self):
        self.data = os.path.join(self.dir, "data")
        subprocess.run(as_other() + [self.bin("initdb"), "-D", self.data, "-U", "coturn", "--auth=trust", "-E", "UTF8",
                                     "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd=self.dir)

    def command_line(self):
        return [self.bin("postgres"), "-D", self.data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                "-c", "unix_socket_directories=" + self.dir, "-c", "fsync=off", "-c", "shared_buffers=32MB"]

    def sql(self, text):
        return subprocess.run([self.bin("psql"), "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
                               "-p", str(self.port), "-U", "coturn", "postgres"], input=text, check=True, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout

    def ping(self):
        self.sql("SELECT 1")

    def connection(self):
        return "host=127.0.0.1 port=%d dbname=postgres user=coturn connect_timeout=2" % self.port

    def uri(self):
        return "postgresql://coturn@127.0.0.1:%d/postgres?connect_timeout=2" % self.port

    def tables(self):
        self.sql(TABLES)


class Redis(Server):
    type = "redis"
    password = "all-powerful"

    @staticmethod
    def is_there():
        return shutil.which("redis-server") is not None or shutil.which("valkey-server") is not None

    def prepare(self):
        with open(os.path.join(self.dir, "redis.conf"), "w") as f:
            f.write("port %d\nbind 127.0.0.1\ndir %s\nappendonly yes\nsave 60 1\nrequirepass %s\n"
                    "notify-keyspace-events KA\n"
                    # The pair of users: one that may do all, and one with an ACL.
                    "user turn on >turnpass ~turn/* &* -@all +get +smembers +scan +set +del +sadd +srem +hgetall +hset +hdel +select +auth "
                    "+psubscribe\n" % (self.port, self.dir, self.password))
        os.chmod(os.path.join(self.dir, "redis.conf"), 0o644)

    def command_line(self):
        return [shutil.which("valkey-server") or shutil.which("redis-server"), os.path.join(self.dir, "redis.conf")]

    def command(self, *words):
        def bulk(w):
            w = w if isinstance(w, bytes) else str(w).encode()
            return b"$%d\r\n%s\r\n" % (len(w), w)
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as s:
            text = b""
            for line in (("AUTH", self.password), words):
                text += b"*%d\r\n" % len(line) + b"".join(bulk(w) for w in line)
            s.sendall(text)
            f = s.makefile("rb")
            if f.readline() != b"+OK\r\n":
                raise OSError("AUTH refused")
            answer = f.readline()
            if answer[:1] == b"-":
                raise OSError(answer.decode())
            return answer

    def ping(self):
        self.command("PING")

    def connection(self, user="turn", password="turnpass"):
        return "ip=127.0.0.1 port=%d dbname=0 user=%s password=%s connect_timeout=2" % (self.port, user, password)

    def tables(self):
        pass

    def add_user(self, name, password, realm=REALM):
        self.command("SET", "turn/realm/%s/user/%s/key" % (realm, name), hmackey(name, password, realm))

    def delete_user(self, name, realm=REALM):
        self.command("DEL", "turn/realm/%s/user/%s/key" % (realm, name))

    def add_secret(self, value, realm=REALM):
        self.command("SADD", "turn/realm/%s/secret" % realm, value)

    def add_range(self, kind, value, realm=REALM):
        self.command("SADD", "turn/realm/%s/%s-peer-ip" % (realm or REALM, kind), value)

    def clear_ranges(self):
        self.command("DEL", "turn/realm/%s/denied-peer-ip" % REALM)
        self.command("DEL", "turn/realm/%s/allowed-peer-ip" % REALM)

    def clear_options(self):
        for opt in ("max-bps", "total-quota", "user-quota"):
            self.command("DEL", "turn/realm/%s/%s" % (REALM, opt))

    def set_option(self, opt, value, realm=REALM):
        self.command("SET", "turn/realm/%s/%s" % (realm, opt), value)


class Maria(Server):
    type = "mariadb"

    @staticmethod
    def is_there():
        return shutil.which("mariadbd") is not None and shutil.which("mariadb-install-db") is not None

    def prepare(self):
        self.data = os.path.join(self.dir, "data")
        subprocess.run(as_other() + ["mariadb-install-db", "--no-defaults", "--datadir=" + self.data,
                                     "--auth-root-authentication-method=normal", "--skip-test-db"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.dir)

    def command_line(self):
        return ["mariadbd", "--no-defaults", "--datadir=" + self.data, "--port=%d" % self.port, "--bind-address=127.0.0.1",
                "--socket=" + os.path.join(self.dir, "s"), "--skip-name-resolve", "--innodb-buffer-pool-size=32M",
                "--innodb-flush-log-at-trx-commit=0", "--pid-file=" + os.path.join(self.dir, "pid")]

    def sql(self, text, database="coturn"):
        return subprocess.run(["mariadb", "--no-defaults", "-N", "-B", "-h", "127.0.0.1", "-P", str(self.port), "-u", "root",
                               database], input="SET sql_mode=CONCAT(@@sql_mode,',NO_BACKSLASH_ESCAPES');" + text, check=True,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout

    def ping(self):
        self.sql("SELECT 1", "mysql")

    def tables(self):
        self.sql("CREATE DATABASE coturn CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
                 "CREATE USER turn@'127.0.0.1' IDENTIFIED BY 'turnpass'; GRANT ALL ON coturn.* TO turn@'127.0.0.1'", "mysql")
        self.sql(TABLES)

    def connection(self):
        return "host=127.0.0.1 port=%d dbname=coturn user=turn password=turnpass connect_timeout=2" % self.port


class Sqlite(Server):
    """A file: a lock on it stands for a dead server."""
    type = "sqlite"

    @staticmethod
    def is_there():
        return True

    def prepare(self):
        self.path = os.path.join(self.dir, "turndb")

    def start(self):
        self.lock = None

    def kill(self, sig=signal.SIGKILL):
        self.lock = sqlite3.connect(self.path, isolation_level=None, timeout=20)
        self.lock.execute("BEGIN EXCLUSIVE")

    freeze = kill

    def thaw(self):
        if self.lock:
            self.lock.rollback()
            self.lock.close()
        self.lock = None

    def stop(self):
        self.thaw()
        shutil.rmtree(self.dir, ignore_errors=True)

    def sql(self, text):
        with contextlib.closing(sqlite3.connect(self.path, timeout=20)) as c:
            rows = c.execute(text).fetchall() if text.lstrip()[:6].upper() == "SELECT" else c.executescript(text) and []
            c.commit()
        if os.geteuid() == 0:
            shutil.chown(self.path, "nobody", "nogroup")
        return "\n".join("|".join(str(x) for x in r) for r in rows)

    def tables(self):
        self.sql(TABLES)

    def connection(self):
        return self.path


def wait_port(port, within=60):
    end = time.monotonic() + within
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.05)
    return False
