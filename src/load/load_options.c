/* SPDX-License-Identifier: BSD-3-Clause */
/* load_options.c: the command line. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "load_int.h"

static const char help[] =
    "usage: turnpike-load [relay] --server HOST[:PORT] [options]     packets through N allocations, counted exactly\n"
    "       turnpike-load hold    --server HOST[:PORT] [options]     keep N sessions, say which stopped relaying\n"
    "       turnpike-load setup   --server HOST[:PORT] [options]     allocations per second\n"
    "       turnpike-load connect --server HOST[:PORT] [options]     connections and handshakes per second\n"
    "       turnpike-load host    [options]                          what this machine's UDP can do, no server\n"
    "transport:\n"
    "  -T, --transport WHICH    to the server: udp, tcp, tls, dtls (udp)\n"
    "      --ca FILE            verify its certificate by those in FILE (without: it is not verified)\n"
    "      --server-name NAME   name to ask for and to verify (HOST when that is a name)\n"
    "credentials:\n"
    "  -u, --user NAME          user name\n"
    "  -w, --password WORD      its password\n"
    "      --secret SECRET      REST credential instead: expiry:NAME and its HMAC-SHA1\n"
    "      --bare               no TURN at all: the server is the bare forwarder of tests/bench\n"
    "sessions:\n"
    "  -n, --allocations N      allocations, one client socket each (1); connect: connections at once\n"
    "      --setup-window N     set-ups under way at once (64)\n"
    "      --lifetime SECONDS   lifetime to ask for (600)\n"
    "      --peer ADDRESS       local address of the built-in peer (the one used towards the server); host: (127.0.0.1)\n"
    "      --peers N            peer sockets (1 a thread)\n"
    "  -t, --threads N          threads, each with its share of the flows (1)\n"
    "traffic:\n"
    "  -i, --indications        Send and Data indications instead of channels\n"
    "  -l, --payload BYTES      32 to 1400 (120)\n"
    "  -R, --run N              packets that one flow sends in a row (1)\n"
    "  -d, --direction WHICH    up, down, both, echo (up; hold: both)\n"
    "      --window N           closed loop: packets under way over all flows (128)\n"
    "  -r, --rate PPS           open loop: packets a second over all flows and directions (hold: 10 a flow and direction);\n"
    "                           setup, connect: begun a second (as fast as it goes)\n"
    "      --ladder A:B:STEP    open loop at A, A+STEP ... B: the highest rate with less than 0.1 % loss\n"
    "  -s, --seconds S          length of each measured step (10)\n"
    "      --warmup S           unmeasured beginning (1; hold: 0)\n"
    "      --packets N          end a step after N packets\n"
    "      --no-gso, --no-gro   without UDP_SEGMENT, UDP_GRO\n"
    "      --nap MICROSECONDS   sleep when there is nothing to do; 0 spins (50)\n"
    "      --stopped-after S    hold: a flow silent for the last S seconds has stopped (2)\n"
    "      --linger S           end of a step: what is missing is lost when nothing came for S seconds (0.2)\n"
    "measuring the server:\n"
    "  -p, --pids PID[,PID...]  CPU time of these processes, per relayed packet\n"
    "      --pid-tree PID       of this process and all below it\n"
    "output:\n"
    "  -j, --json               one JSON object on stdout\n"
    "      --per-flow           every flow's account, not only those where something is wrong\n"
    "  -q, --quiet              no progress\n";

#define TURNS_PORT 5349

static void __attribute__((noreturn, format(printf, 1, 2))) usage(const char *fmt, ...)
{
	va_list ap;

	fputs("turnpike-load: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\n(turnpike-load --help lists the options)\n", stderr);
	exit(EX_USAGE);
}

static double
real(const char *name, const char *text, double min, double max)
{
	char *end;
	double v;

	errno = 0;
	v = strtod(text, &end);
	if (end == text || *end != '\0' || errno != 0 || !(v >= min && v <= max))
		usage("--%s: %s: not a number from %.10g to %.10g", name, text, min, max);
	return v;
}

static unsigned
whole(const char *name, const char *text, unsigned min, unsigned max)
{
	double v = real(name, text, min, max);

	if (v != (double)(unsigned)v)
		usage("--%s: %s: not a whole number", name, text);
	return (unsigned)v;
}

static void
text(const char *name, char *out, const char *in)
{
	if (text_copy(out, LOAD_TEXT_MAX, in) >= LOAD_TEXT_MAX)
		usage("--%s: too long", name);
}

/* HOST, HOST:PORT, [v6]:PORT; a name is looked up. */
static void
server(struct load_options *o, const char *in)
{
	struct addr *out = &o->server;
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM }, *found;
	char host[256];
	const char *colon = strrchr(in, ':');
	int r;

	if (addr_parse(out, in) != 0) {
		size_t n = colon != NULL ? (size_t)(colon - in) : strlen(in);

		if (n >= sizeof host)
			usage("--server: %s: too long", in);
		memcpy(host, in, n);
		host[n] = '\0';
		r = getaddrinfo(host, colon != NULL ? colon + 1 : NULL, &hints, &found);
		if (r != 0)
			usage("--server: %s: %s", in, gai_strerror(r));
		r = addr_from_sockaddr(out, found->ai_addr);
		freeaddrinfo(found);
		if (r != 0)
			usage("--server: %s: no address", in);
		if (colon != NULL && (out->port == 0 || strtoul(colon + 1, NULL, 10) != out->port))
			usage("--server: %s: not a port from 1 to 65535", in);
		if (o->server_name[0] == '\0')
			text("server", o->server_name, host);
	}
}

static void
pids(struct load_options *o, const char *name, const char *in)
{
	char *copy = strdup(in), *save = NULL;

	for (char *p = strtok_r(copy, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save)) {
		if (o->pid_count == LOAD_PIDS_MAX)
			usage("--%s: more than %d", name, LOAD_PIDS_MAX);
		o->pids[o->pid_count++] = (int)whole(name, p, 1, 1u << 30);
		if (kill(o->pids[o->pid_count - 1], 0) != 0 && errno == ESRCH)
			usage("--%s: %s: no such process", name, p);
	}
	free(copy);
}

static void
ladder(struct load_options *o, const char *in)
{
	char tail;

	if (sscanf(in, "%lf:%lf:%lf%c", &o->ladder[0], &o->ladder[1], &o->ladder[2], &tail) != 3 ||
	    !(o->ladder[0] > 0 && o->ladder[1] >= o->ladder[0] && o->ladder[2] > 0 &&
		(o->ladder[1] - o->ladder[0]) / o->ladder[2] < 1000))
		usage("--ladder: %s: not start:stop:step, or over 1000 steps", in);
}

static enum load_direction
direction(const char *in)
{
	static const struct {
		const char *name;
		enum load_direction d;
	} names[] = { { "up", LOAD_UP }, { "down", LOAD_DOWN }, { "both", LOAD_BOTH },
		{ "echo", LOAD_ECHO } };

	for (unsigned i = 0; i < TP_COUNT(names); i++)
		if (strcmp(in, names[i].name) == 0)
			return names[i].d;
	usage("--direction: %s: not up, down, both or echo", in);
}

static enum load_transport
transport(const char *in)
{
	static const struct {
		const char *name;
		enum load_transport t;
	} names[] = { { "udp", LOAD_UDP }, { "tcp", LOAD_TCP }, { "tls", LOAD_TLS },
		{ "dtls", LOAD_DTLS } };

	for (unsigned i = 0; i < TP_COUNT(names); i++)
		if (strcmp(in, names[i].name) == 0)
			return names[i].t;
	usage("--transport: %s: not udp, tcp, tls or dtls", in);
}

enum {
	O_SECRET = 256,
	O_CA,
	O_SERVER_NAME,
	O_BARE,
	O_SETUP_WINDOW,
	O_LIFETIME,
	O_PEER,
	O_PEERS,
	O_WINDOW,
	O_LADDER,
	O_WARMUP,
	O_PACKETS,
	O_NO_GSO,
	O_NO_GRO,
	O_NAP,
	O_STOPPED,
	O_LINGER,
	O_PID_TREE,
	O_PER_FLOW
};

static const struct option options[] = {
	{ "server", required_argument, NULL, 'S' },
	{ "user", required_argument, NULL, 'u' },
	{ "password", required_argument, NULL, 'w' },
	{ "secret", required_argument, NULL, O_SECRET },
	{ "transport", required_argument, NULL, 'T' },
	{ "ca", required_argument, NULL, O_CA },
	{ "server-name", required_argument, NULL, O_SERVER_NAME },
	{ "bare", no_argument, NULL, O_BARE },
	{ "allocations", required_argument, NULL, 'n' },
	{ "setup-window", required_argument, NULL, O_SETUP_WINDOW },
	{ "lifetime", required_argument, NULL, O_LIFETIME },
	{ "peer", required_argument, NULL, O_PEER },
	{ "peers", required_argument, NULL, O_PEERS },
	{ "threads", required_argument, NULL, 't' },
	{ "indications", no_argument, NULL, 'i' },
	{ "payload", required_argument, NULL, 'l' },
	{ "run", required_argument, NULL, 'R' },
	{ "direction", required_argument, NULL, 'd' },
	{ "window", required_argument, NULL, O_WINDOW },
	{ "rate", required_argument, NULL, 'r' },
	{ "ladder", required_argument, NULL, O_LADDER },
	{ "seconds", required_argument, NULL, 's' },
	{ "warmup", required_argument, NULL, O_WARMUP },
	{ "packets", required_argument, NULL, O_PACKETS },
	{ "no-gso", no_argument, NULL, O_NO_GSO },
	{ "no-gro", no_argument, NULL, O_NO_GRO },
	{ "nap", required_argument, NULL, O_NAP },
	{ "stopped-after", required_argument, NULL, O_STOPPED },
	{ "linger", required_argument, NULL, O_LINGER },
	{ "pids", required_argument, NULL, 'p' },
	{ "pid-tree", required_argument, NULL, O_PID_TREE },
	{ "json", no_argument, NULL, 'j' },
	{ "per-flow", no_argument, NULL, O_PER_FLOW },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static bool
sessions_option(struct load_options *o, int c, const char *arg)
{
	switch (c) {
	case 'S':
		server(o, arg);
		return true;
	case 'T':
		o->transport = transport(arg);
		return true;
	case O_CA:
		text("ca", o->ca, arg);
		return true;
	case O_SERVER_NAME:
		text("server-name", o->server_name, arg);
		return true;
	case 'u':
		text("user", o->user, arg);
		return true;
	case 'w':
		text("password", o->password, arg);
		return true;
	case O_SECRET:
		text("secret", o->secret, arg);
		return true;
	case O_BARE:
		o->bare = true;
		return true;
	case 'n':
		o->flows = whole("allocations", arg, 1, 1000000);
		return true;
	case O_SETUP_WINDOW:
		o->setup_window = whole("setup-window", arg, 1, 100000);
		return true;
	case O_LIFETIME:
		o->lifetime = whole("lifetime", arg, 1, 86400);
		return true;
	case O_PEER:
		if (addr_parse(&o->peer, arg) != 0 || o->peer.port != 0)
			usage("--peer: %s: not an address", arg);
		return true;
	case O_PEERS:
		o->peers = whole("peers", arg, 1, 65535);
		return true;
	case 't':
		o->threads = whole("threads", arg, 1, 256);
		return true;
	default:
		return false;
	}
}

static bool
traffic_option(struct load_options *o, int c, const char *arg)
{
	switch (c) {
	case 'i':
		o->indications = true;
		return true;
	case 'l':
		o->payload = whole("payload", arg, PAYLOAD_MIN, PAYLOAD_MAX);
		return true;
	case 'R':
		o->run = whole("run", arg, 1, 256);
		return true;
	case 'd':
		o->direction = direction(arg);
		return true;
	case O_WINDOW:
		o->window = whole("window", arg, 1, 1000000);
		return true;
	case 'r':
		o->rate = real("rate", arg, 0.1, 1e9);
		return true;
	case O_LADDER:
		ladder(o, arg);
		return true;
	case 's':
		o->seconds = real("seconds", arg, 0.01, 86400);
		return true;
	case O_WARMUP:
		o->warmup = real("warmup", arg, 0, 3600);
		return true;
	case O_PACKETS:
		o->packets = (uint64_t)real("packets", arg, 1, 1e12);
		return true;
	case O_NO_GSO:
		o->no_gso = true;
		return true;
	case O_NO_GRO:
		o->no_gro = true;
		return true;
	case O_NAP:
		o->nap_us = whole("nap", arg, 0, 100000);
		return true;
	case O_LINGER:
		o->linger = real("linger", arg, 0, 3600);
		return true;
	case O_STOPPED:
		o->stopped_after = real("stopped-after", arg, 0.01, 86400);
		return true;
	default:
		return false;
	}
}

static void
output_option(struct load_options *o, int c, const char *arg)
{
	switch (c) {
	case 'p':
		pids(o, "pids", arg);
		break;
	case O_PID_TREE:
		pids(o, "pid-tree", arg);
		o->pid_tree = true;
		break;
	case 'j':
		o->json = true;
		break;
	case O_PER_FLOW:
		o->per_flow = true;
		break;
	case 'q':
		o->quiet = true;
		break;
	case 'h':
		fputs(help, stdout);
		exit(EX_OK);
	case 'V':
		puts("turnpike-load " PACKAGE_VERSION);
		exit(EX_OK);
	default:
		usage("unknown option, or its argument is missing");
	}
}

static enum load_mode
mode(const char *in)
{
	static const struct {
		const char *name;
		enum load_mode m;
	} names[] = { { "relay", LOAD_RELAY }, { "hold", LOAD_HOLD }, { "setup", LOAD_SETUP },
		{ "host", LOAD_HOST }, { "connect", LOAD_CONNECT } };

	for (unsigned i = 0; i < TP_COUNT(names); i++)
		if (strcmp(in, names[i].name) == 0)
			return names[i].m;
	usage("%s: not relay, hold, setup, connect or host", in);
}

static void
settle(struct load_options *o)
{
	bool hold = o->mode == LOAD_HOLD, secure = o->transport == LOAD_TLS || o->transport == LOAD_DTLS;

	if (o->mode == LOAD_HOST)
		return;
	if (o->server.family == ADDR_NONE)
		usage("--server is missing");
	if (o->server.port == 0)
		o->server.port = secure ? TURNS_PORT : STUN_PORT;
	if (!secure && o->ca[0] != '\0')
		usage("--ca goes with --transport tls or dtls");
	if (o->bare && o->transport != LOAD_UDP)
		usage("--bare is over UDP");
	if (o->secret[0] != '\0' && o->password[0] != '\0')
		usage("--secret makes the password itself: leave out --password");
	if (o->threads > o->flows)
		o->threads = o->flows;
	if (o->direction == 0)
		o->direction = hold ? LOAD_BOTH : LOAD_UP;
	if (hold && o->rate <= 0)
		o->rate = 10.0 * o->flows * (o->direction == LOAD_BOTH ? 2 : 1);
	if (o->warmup < 0)
		o->warmup = hold || o->packets != 0 ? 0 : 1;
	if (hold && o->ladder[2] > 0)
		usage("hold and --ladder do not go together");
	if ((o->mode == LOAD_SETUP || o->mode == LOAD_CONNECT) && o->bare)
		usage("setup or connect and --bare do not go together");
}

void
load_options_parse(struct load_options *o, int argc, char **argv)
{
	int c;

	*o = (struct load_options){ .flows = 1,
		.threads = 1,
		.run = 1,
		.setup_window = 64,
		.payload = 120,
		.seconds = 10,
		.warmup = -1,
		.window = 128,
		.nap_us = 50,
		.stopped_after = 2,
		.linger = 0.2,
		.lifetime = 600 };
	while ((c = getopt_long(argc, argv, "S:T:u:w:n:t:il:R:d:r:s:p:jqhV", options, NULL)) != -1)
		if (!sessions_option(o, c, optarg) && !traffic_option(o, c, optarg))
			output_option(o, c, optarg);
	if (optind < argc)
		o->mode = mode(argv[optind++]);
	if (optind < argc)
		usage("%s: what is this?", argv[optind]);
	settle(o);
}
