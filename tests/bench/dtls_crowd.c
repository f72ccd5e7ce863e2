/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dtls_crowd.c: very many DTLS clients in one process, for benchmarks and tests on loopback.
 *
 *	dtls_crowd hold ADDRESS:PORT N		N handshakes and one Binding each; then, for each line on stdin, one Binding
 *						more over each session; at the end of stdin close_notify to all
 *	dtls_crowd hellos ADDRESS:PORT N	N hellos without a cookie, each from another source and with another random
 *	dtls_crowd halves ADDRESS:PORT N	N handshakes that end with the hello that returns the cookie: then silence
 *
 * A client is an address of 127.16.0.0/12 and one of PORTS ports: a wildcard socket of each port, the
 * address by IP_PKTINFO, so a hundred thousand need eight descriptors.  libssl makes the handshake; its
 * keys are exported as turnpike-tls does it, and 168 bytes are what is kept of a client.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "tp/seal.h"
#include "tp/stun.h"
#include "tp/tlsd.h"

#define PORTS        8
#define NET          0x7f100001u /* 127.16.0.1 */
#define CLIENTS_MAX  (UINT32_C(1) << 20)
#define WINDOW       64   /* handshakes under way */
#define ASKS         256  /* Bindings under way */
#define ASK_MS       1000 /* until one is sent again */
#define TRIES        60
#define KEEP_MS      180000 /* in which each session is used */
#define HANDSHAKE_MS 20000  /* until a handshake begins again */
#define MTU          1400
#define NONE         UINT32_MAX

struct client {
	struct seal keys;
	struct seal_dtls pos;
	uint32_t slot; /* of what is under way; NONE */
};
enum stage { IDLE, SHAKES, ASKS_NOW };
struct slot {
	enum stage stage;
	uint32_t who; /* index of the client */
	SSL *ssl;
	struct tlsd_tap tap;
	const uint8_t *in;
	size_t in_len;
	uint64_t sent; /* ms */
	unsigned tries;
	bool silent; /* what libssl writes goes to `last` only */
};

static int sock[PORTS];
static struct sockaddr_in server;
static struct client *client;
static uint32_t clients, under_way, round_number;
static struct slot slot[ASKS];
static uint8_t last[2048];
static size_t last_len;
static struct seal_ctx seal;
static SSL_CTX *ctx;
static BIO_METHOD *bio;

static uint64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- datagrams ------------------------------------------------------------------------------- */

union control {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(struct in_pktinfo))];
};

static void
open_sockets(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	int on = 1, size = 8 << 20;

	for (unsigned i = 0; i < PORTS; i++) {
		sock[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (sock[i] < 0 || bind(sock[i], (struct sockaddr *)&any, sizeof any) < 0 ||
		    setsockopt(sock[i], IPPROTO_IP, IP_PKTINFO, &on, sizeof on) < 0)
			fatal(EX_OSERR, "socket");
		(void)setsockopt(sock[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	}
}

static void
send_from(uint32_t who, const uint8_t *p, size_t n)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	union control c = { .align = { .cmsg_level = IPPROTO_IP,
				.cmsg_type = IP_PKTINFO,
				.cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo)) } };
	struct in_pktinfo info = { .ipi_spec_dst.s_addr = htonl(NET + who / PORTS) };
	struct msghdr m = { .msg_name = &server,
		.msg_namelen = sizeof server,
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = c.space,
		.msg_controllen = sizeof c };

	memcpy(CMSG_DATA(&c.align), &info, sizeof info);
	/* A full buffer is a lost datagram. */
	(void)sendmsg(sock[who % PORTS], &m, 0);
}

/* The length, and the client that it is for; 0: nothing is there. */
static size_t
receive(unsigned port, uint8_t *p, size_t room, uint32_t *who)
{
	struct iovec iov = { .iov_base = p, .iov_len = room };
	union control c;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.space, .msg_controllen = sizeof c
	};
	struct in_pktinfo info = { 0 };
	ssize_t n = recvmsg(sock[port], &m, MSG_DONTWAIT);

	if (n <= 0)
		return 0;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h != NULL; h = CMSG_NXTHDR(&m, h))
		if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO)
			memcpy(&info, CMSG_DATA(h), sizeof info);
	*who = (ntohl(info.ipi_addr.s_addr) - NET) * PORTS + port;
	return (size_t)n;
}

typedef void datagram_h(uint32_t who, uint8_t *p, size_t n);

/* What has come; waits for the first at most so long. */
static unsigned
pump(datagram_h *handle, int wait_ms)
{
	struct pollfd p[PORTS];
	uint8_t buf[4096];
	unsigned count = 0;
	uint32_t who;
	size_t n;

	for (unsigned i = 0; i < PORTS; i++)
		p[i] = (struct pollfd){ .fd = sock[i], .events = POLLIN };
	if (poll(p, PORTS, wait_ms) <= 0)
		return 0;
	for (unsigned i = 0; i < PORTS; i++)
		while ((n = receive(i, buf, sizeof buf, &who)) > 0) {
			count++;
			if (who < clients)
				handle(who, buf, n);
		}
	return count;
}

/* ---- libssl ---------------------------------------------------------------------------------- */

static int
on_write(BIO *b, const char *p, int n)
{
	struct slot *s = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (n <= 0 || (size_t)n > sizeof last || tlsd_tap_out(&s->tap, (const uint8_t *)p, (size_t)n) < 0)
		return -1;
	memcpy(last, p, (size_t)n);
	last_len = (size_t)n;
	if (!s->silent)
		send_from(s->who, last, last_len);
	return n;
}

static int
on_read(BIO *b, char *p, int n)
{
	struct slot *s = BIO_get_data(b);
	size_t k = s->in_len < (size_t)n ? s->in_len : (size_t)n;

	BIO_clear_retry_flags(b);
	if (s->in == NULL) {
		BIO_set_retry_read(b);
		return -1;
	}
	memcpy(p, s->in, k);
	s->in = NULL;
	return (int)k;
}

static long
on_ctrl(BIO *b, int what, long n, void *p)
{
	(void)b;
	(void)n;
	(void)p;
	return what == BIO_CTRL_FLUSH                                                     ? 1
	    : what == BIO_CTRL_DGRAM_QUERY_MTU || what == BIO_CTRL_DGRAM_GET_FALLBACK_MTU ? MTU
											  : 0;
}

static void
open_ssl(void)
{
	ctx = SSL_CTX_new(DTLS_client_method());
	bio = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "crowd");
	if (ctx == NULL || bio == NULL || tlsd_ctx_policy(ctx) < 0 || seal_ctx_init(&seal) < 0)
		fatal(EX_SOFTWARE, "libssl");
	SSL_CTX_set_options(ctx, SSL_OP_NO_QUERY_MTU);
	BIO_meth_set_write(bio, on_write);
	BIO_meth_set_read(bio, on_read);
	BIO_meth_set_ctrl(bio, on_ctrl);
}

static void
ssl_begin(struct slot *s)
{
	BIO *b = BIO_new(bio);

	s->ssl = SSL_new(ctx);
	if (b == NULL || s->ssl == NULL || tlsd_tap_attach(&s->tap, s->ssl) < 0)
		fatal(EX_OSERR, "libssl");
	BIO_set_data(b, s);
	BIO_set_init(b, 1);
	SSL_set_bio(s->ssl, b, b);
	SSL_set_mtu(s->ssl, MTU);
	SSL_set_connect_state(s->ssl);
}

static void
ssl_end(struct slot *s)
{
	if (s->ssl == NULL)
		return;
	tlsd_tap_detach(s->ssl);
	SSL_free(s->ssl);
	tlsd_tap_fini(&s->tap);
	s->ssl = NULL;
}

/* 1: the handshake is done, 0: it goes on, -1. */
static int
ssl_step(struct slot *s, const uint8_t *p, size_t n)
{
	s->in = p;
	s->in_len = n;
	ERR_clear_error();
	int r = SSL_do_handshake(s->ssl), e = r == 1 ? 0 : SSL_get_error(s->ssl, r);
	s->in = NULL;
	return r == 1 ? 1 : e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* ---- slots ----------------------------------------------------------------------------------- */

static struct slot *
slot_take(uint32_t who, unsigned most)
{
	for (unsigned i = 0; under_way < most && i < most; i++)
		if (slot[i].stage == IDLE) {
			slot[i] = (struct slot){ .who = who, .sent = now_ms() };
			client[who].slot = i;
			under_way++;
			return &slot[i];
		}
	return NULL;
}

static void
slot_free(struct slot *s)
{
	ssl_end(s);
	client[s->who].slot = NONE;
	s->stage = IDLE;
	under_way--;
}

static void __attribute__((noreturn)) give_up(const struct slot *s, const char *what)
{
	fatal(1, "client %" PRIu32 ": %s", s->who, what);
}

/* ---- Bindings over sessions ------------------------------------------------------------------ */

static uint32_t answered, at_once, again;

static void
seal_to(uint32_t who, uint8_t type, const uint8_t *p, size_t n)
{
	struct client *c = &client[who];
	uint8_t out[256];
	uint64_t seq;
	int len = seal_dtls_take(&c->pos, &seq);

	if (len == 0)
		len = seal_dtls_seal(&c->keys, &seal, seq, type, p, n, out, sizeof out);
	if (len <= 0)
		fatal(EX_SOFTWARE, "seal: %s", seal_fault_name(len));
	send_from(who, out, (size_t)len);
}

static void
txid_of(uint32_t who, uint8_t id[STUN_TXID])
{
	put_u32(id, round_number);
	put_u32(id + 4, who);
	put_u32(id + 8, 0x63727764);
}

static void
send_binding(uint32_t who)
{
	uint8_t m[64], id[STUN_TXID];
	struct stun_out o;

	txid_of(who, id);
	stun_begin(&o, m, sizeof m, STUN_REQUEST, STUN_BINDING, id);
	seal_to(who, SEAL_T_DATA, m, stun_end(&o));
}

static void
ask(struct slot *s)
{
	send_binding(s->who);
	s->stage = ASKS_NOW;
	s->sent = now_ms();
	if (++s->tries > TRIES)
		give_up(s, "no answer to a Binding");
}

/* Is it the answer to this round's question, and does it name this client's own address? */
static bool
is_answer(uint32_t who, const uint8_t *p, size_t n)
{
	uint8_t id[STUN_TXID];
	struct stun_msg m;
	struct addr a;

	txid_of(who, id);
	return stun_parse(&m, p, n) == STUN_OK && m.cls == STUN_SUCCESS &&
	    memcmp(m.txid, id, sizeof id) == 0 &&
	    stun_get_xaddr(&m, stun_find(&m, STUN_A_XOR_MAPPED_ADDRESS), &a) && a.family == ADDR_V4 &&
	    get_u32(a.ip) == NET + who / PORTS;
}

/* A handshake from the beginning. */
static void
shake(struct slot *s)
{
	s->stage = SHAKES;
	s->sent = now_ms();
	ssl_begin(s);
	if (ssl_step(s, NULL, 0) < 0)
		give_up(s, "libssl");
}

/* The server's deadlines are passed easily where the machine has no time for us; a client would try
 * again, too. */
static void
once_more(struct slot *s)
{
	ssl_end(s);
	client[s->who].keys.proto = SEAL_NONE;
	s->tries = 0;
	again++;
	shake(s);
}

static void
session_record(uint32_t who, uint8_t *p, size_t n)
{
	struct client *c = &client[who];
	uint8_t out[2048];
	struct seal_dhead h;
	struct seal_in in;
	int len;

	for (; n > 0 && (len = seal_dtls_head(&h, p, n)) > 0; p += len, n -= (size_t)len) {
		if (h.dclass != SEAL_D_SESSION || !seal_window_fresh(&c->pos, h.seq) ||
		    seal_dtls_open(&c->keys, &seal, p, h.len, out, sizeof out, &in) < 0)
			continue;
		seal_window_mark(&c->pos, h.seq);
		if (in.kind == SEAL_CLOSE || in.kind == SEAL_FATAL) {
			if (round_number > 1 || c->slot == NONE)
				fatal(1, "client %" PRIu32 ": closed by the server", who);
			once_more(&slot[c->slot]); /* its first Binding came too late */
			return;
		}
		if (in.kind != SEAL_DATA || c->slot == NONE || !is_answer(who, in.data, in.len))
			continue;
		answered++;
		at_once += slot[c->slot].tries == 1;
		slot_free(&slot[c->slot]);
	}
}

/* ---- hold ------------------------------------------------------------------------------------ */

static void
shaken(struct slot *s)
{
	struct seal_session full;
	int e = tlsd_export(&full, s->ssl, &s->tap);

	if (e < 0)
		give_up(s, strerror(-e));
	client[s->who].keys = full.keys;
	client[s->who].pos = full.dtls;
	sodium_memzero(&full, sizeof full);
	ssl_end(s);
	ask(s);
}

static void
hold_datagram(uint32_t who, uint8_t *p, size_t n)
{
	struct slot *s = client[who].slot != NONE ? &slot[client[who].slot] : NULL;

	if (s == NULL || s->stage != SHAKES) {
		session_record(who, p, n);
		return;
	}
	int r = ssl_step(s, p, n);
	if (r < 0)
		once_more(s);
	else if (r > 0)
		shaken(s);
}

static void
timeouts(void)
{
	uint64_t now = now_ms();

	for (unsigned i = 0; i < ASKS; i++) {
		struct slot *s = &slot[i];
		if (s->stage == SHAKES) {
			ERR_clear_error();
			if (now - s->sent > HANDSHAKE_MS || DTLSv1_handle_timeout(s->ssl) < 0)
				once_more(s);
		} else if (s->stage == ASKS_NOW && now - s->sent >= ASK_MS) {
			ask(s);
		}
	}
}

/* Idle associations without an allocation end after ten minutes, and a busy machine needs long for the
 * rest: each is used now and then.  The answers are not waited for. */
static void
keep_alive(void)
{
	static uint32_t cursor;
	static uint64_t begun, done;

	if (begun == 0)
		begun = now_ms();
	for (uint64_t due = (now_ms() - begun) * clients / KEEP_MS; done < due;
	     done++, cursor = (cursor + 1) % clients)
		if (client[cursor].keys.proto != SEAL_NONE && client[cursor].slot == NONE)
			send_binding(cursor);
}

/* All clients, at most so many under way at a time. */
static void
everyone(void begin(struct slot *), unsigned most, datagram_h *handle, void late(void))
{
	uint64_t looked = 0;
	struct slot *s;

	for (uint32_t next = 0; next < clients || under_way > 0;) {
		while (next < clients && (s = slot_take(next, most)) != NULL) {
			begin(s);
			next++;
		}
		pump(handle, 20);
		if (now_ms() - looked >= 20) {
			late();
			keep_alive();
			looked = now_ms();
		}
	}
}

static void
round_of(const char *name, void begin(struct slot *), unsigned most)
{
	uint64_t start = now_ms();

	round_number++;
	answered = at_once = 0;
	everyone(begin, most, hold_datagram, timeouts);
	uint64_t ms = now_ms() - start;
	printf("%s %" PRIu32 " of %" PRIu32 ", %" PRIu32 " at once, %" PRIu64 " ms, %" PRIu32
	       " handshakes again\n",
	    name, answered, clients, at_once, ms, again);
	fflush(stdout);
}

static void
hold(void)
{
	char line[16];

	round_of("held", shake, WINDOW);
	while (fgets(line, sizeof line, stdin) != NULL)
		round_of("answered", ask, ASKS);
	for (uint32_t i = 0; i < clients; i++)
		seal_to(i, SEAL_T_ALERT, (const uint8_t[]){ SEAL_WARNING, SEAL_A_CLOSE_NOTIFY }, 2);
}

/* ---- hellos ---------------------------------------------------------------------------------- */

#define RANDOM_AT (SEAL_DTLS_HEAD + 12 + 2)

static uint32_t verifies;

static void
count_verify(uint32_t who, uint8_t *p, size_t n)
{
	(void)who;
	verifies += n == SEAL_VERIFY_LEN && p[SEAL_DTLS_HEAD] == 3;
}

static void
hellos(void)
{
	struct slot s = { .silent = true };
	uint64_t start = now_ms();
	uint32_t lost = 0;

	ssl_begin(&s);
	(void)ssl_step(&s, NULL, 0);
	for (uint32_t i = 0; i < clients; i++) {
		put_u32(last + RANDOM_AT, i);
		send_from(i, last, last_len);
		if (i % 32 == 31)
			pump(count_verify, 0);
		/* As fast as they are answered; what is not answered soon is lost. */
		while (i + 1 - lost - verifies > 256)
			if (pump(count_verify, 100) == 0)
				lost = i + 1 - verifies;
	}
	while (pump(count_verify, 200) > 0)
		;
	ssl_end(&s);
	printf("hellos %" PRIu32 ", %" PRIu32 " answered, %" PRIu64 " ms\n", clients, verifies,
	    now_ms() - start);
}

/* ---- halves ---------------------------------------------------------------------------------- */

static uint32_t flights, unheard;

static void
half_datagram(uint32_t who, uint8_t *p, size_t n)
{
	struct slot *s = client[who].slot != NONE ? &slot[client[who].slot] : NULL;

	if (s == NULL || n <= SEAL_DTLS_HEAD)
		return;
	if (p[SEAL_DTLS_HEAD] == 3 && s->ssl != NULL) {
		if (ssl_step(s, p, n) < 0)
			give_up(s, "libssl");
		ssl_end(s); /* the hello with the cookie is out: never a word more */
		s->stage = ASKS_NOW;
		s->sent = now_ms();
	} else if (p[0] == SEAL_T_HANDSHAKE && p[SEAL_DTLS_HEAD] == 2) {
		flights++; /* ServerHello */
		slot_free(s);
	}
}

static void
half_timeouts(void)
{
	for (unsigned i = 0; i < ASKS; i++) {
		struct slot *s = &slot[i];
		if (s->stage == SHAKES) {
			(void)DTLSv1_handle_timeout(s->ssl);
		} else if (s->stage == ASKS_NOW && now_ms() - s->sent >= 2000) {
			unheard++;
			slot_free(s);
		}
	}
}

static void
halves(void)
{
	uint64_t start = now_ms();

	everyone(shake, WINDOW, half_datagram, half_timeouts);
	printf("halves %" PRIu32 ", %" PRIu32 " answered, %" PRIu32 " not, %" PRIu64 " ms\n", clients,
	    flights, unheard, now_ms() - start);
}

int
main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} modes[] = { { "hold", hold }, { "hellos", hellos }, { "halves", halves } };
	struct sockaddr_storage ss;
	struct addr a;

	log_init("dtls_crowd", 0, 0, LOG_L_WARN);
	if (argc != 4 || addr_parse(&a, argv[2]) < 0 || a.family != ADDR_V4 || a.port == 0 ||
	    sodium_init() < 0)
		fatal(EX_USAGE, "usage: dtls_crowd hold|hellos|halves ADDRESS:PORT N");
	clients = (uint32_t)strtoul(argv[3], NULL, 10);
	if (clients == 0 || clients > CLIENTS_MAX || (client = calloc(clients, sizeof *client)) == NULL)
		fatal(EX_USAGE, "1 to %" PRIu32 " clients", CLIENTS_MAX);
	for (uint32_t i = 0; i < clients; i++)
		client[i].slot = NONE;
	(void)addr_to_sockaddr(&a, &ss);
	memcpy(&server, &ss, sizeof server);
	open_sockets();
	open_ssl();
	for (unsigned i = 0; i < TP_COUNT(modes); i++)
		if (strcmp(argv[1], modes[i].name) == 0) {
			modes[i].run();
			return 0;
		}
	fatal(EX_USAGE, "no mode %s", argv[1]);
}
