/* SPDX-License-Identifier: BSD-3-Clause */
/* tlsd_rig.c: the supervisor, the worker and the clients of a real turnpike-tls. */
#include "config.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tlsd_rig.h"

enum { FD_STAT = 20, FD_CONF, FD_CERTS, FD_LINK };

void
rig_die(const char *what, const char *file, int line)
{
	ERR_print_errors_fp(stderr);
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

static int
memfd_of(const void *bytes, size_t len)
{
	int fd = memfd_create("rig", MFD_CLOEXEC);

	RIG_ASSERT(fd >= 0 && ftruncate(fd, (off_t)len) == 0);
	RIG_ASSERT(bytes == NULL || pwrite(fd, bytes, len, 0) == (ssize_t)len);
	return fd;
}

/* ---- certificates ------------------------------------------------------------------------------- */

static EVP_PKEY *
key_of(bool rsa)
{
	static EVP_PKEY *keys[2];

	if (keys[rsa] == NULL)
		keys[rsa] = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
	RIG_ASSERT(keys[rsa] != NULL);
	return keys[rsa];
}

void
rig_keys(void)
{
	(void)key_of(false);
	(void)key_of(true);
}

static char *
pem_of(X509 *x, EVP_PKEY *key, size_t *len)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *p, *out;

	if (x != NULL)
		PEM_write_bio_X509(b, x);
	else
		PEM_write_bio_PKCS8PrivateKey(b, key, EVP_aes_128_cbc(), "open sesame", 11, NULL, NULL);
	*len = (size_t)BIO_get_mem_data(b, &p);
	out = malloc(*len);
	memcpy(out, p, *len);
	BIO_free(b);
	return out;
}

static X509 *
make_cert(const char *name, const char *tag, bool rsa)
{
	X509 *x = X509_new();
	X509_NAME *n = X509_get_subject_name(x);
	char san[64];
	X509_EXTENSION *ext;

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 30 * 86400);
	X509_NAME_add_entry_by_txt(n, "O", MBSTRING_ASC, (const unsigned char *)tag, -1, -1, 0);
	X509_set_issuer_name(x, n);
	snprintf(san, sizeof san, "DNS:%s", name);
	ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
	X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
	X509_set_pubkey(x, key_of(rsa));
	RIG_ASSERT(X509_sign(x, key_of(rsa), EVP_sha256()) > 0);
	return x;
}

static int
make_certs(const char *tag)
{
	static const struct {
		const char *name;
		bool rsa;
	} row[] = { { "ecdsa.test", false }, { "rsa.test", true }, { "both.test", true },
		{ "Both.test", false }, { "*.wild.test", false } };
	uint8_t *base = calloc(1, 65536);
	struct certs *c = (void *)base;
	uint32_t at = sizeof *c;
	size_t len;
	int fd;

	c->magic = CERTS_MAGIC;
	c->layout = CERTS_LAYOUT;
	c->count = TP_COUNT(row);
	for (unsigned i = 0; i < TP_COUNT(row); i++) {
		X509 *x = make_cert(row[i].name, tag, row[i].rsa);
		char *text[3] = { pem_of(x, NULL, &len), NULL, strdup("open sesame") };
		size_t lens[3] = { len, 0, 11 };
		struct certs_part *part[3] = { &c->entry[i].chain, &c->entry[i].key,
			&c->entry[i].password };

		text[1] = pem_of(NULL, key_of(row[i].rsa), &lens[1]);
		for (unsigned k = 0; k < 3; k++) {
			*part[k] = (struct certs_part){ at, (uint32_t)lens[k] };
			memcpy(base + at, text[k], lens[k]);
			at += (uint32_t)lens[k];
			free(text[k]);
		}
		X509_free(x);
	}
	RIG_ASSERT(certs_validate(c, at) == 0);
	fd = memfd_of(base, at);
	free(base);
	return fd;
}

/* ---- the process ---------------------------------------------------------------------------------- */

void
rig_init(struct rig *r)
{
	int pair[2];

	memset(r, 0, sizeof *r);
	RIG_ASSERT(sodium_init() >= 0);
	conf_defaults(&r->conf);
	r->certs_fd = make_certs("first");
	RIG_ASSERT(region_make("rig", STAT_SIZE, &r->stat_fd, &pair[0]) == 0);
	close(pair[0]);
	r->stat = mmap(NULL, STAT_SIZE, PROT_READ, MAP_SHARED, r->stat_fd, 0);
	RIG_ASSERT(r->stat != MAP_FAILED);
	RIG_ASSERT(ipc_pair(pair) == 0);
	r->link = pair[0];
	r->tlsd_link = pair[1];
	RIG_ASSERT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, r->log) == 0);
	RIG_ASSERT(seal_ctx_init(&r->seal) == 0);
	randombytes_buf(&r->cookies, sizeof r->cookies);
	r->cookies.number[1] = (uint8_t)(r->cookies.number[0] - 1);
}

static void
child(struct rig *r, int control)
{
	const char *dir = getenv("top_builddir");
	char path[512];
	int from[] = { control, r->log[1], r->stat_fd, r->conf_fd, r->certs_fd, r->tlsd_link };
	static const int to[] = { CHILD_FD_CONTROL, CHILD_FD_LOG, FD_STAT, FD_CONF, FD_CERTS, FD_LINK };
	char *const argv[] = { path, (char *)"0", NULL };
	char *const env[] = { NULL };

	snprintf(path, sizeof path, "%s/src/prog/turnpike-tls", dir != NULL ? dir : ".");
	for (unsigned i = 0; i < TP_COUNT(from); i++)
		from[i] = fcntl(from[i], F_DUPFD, 100);
	for (unsigned i = 0; i < TP_COUNT(from); i++)
		if (dup2(from[i], to[i]) < 0)
			_exit(99);
	for (int fd = FD_LINK + 1; fd < 200; fd++)
		close(fd);
	execve(path, argv, env);
	_exit(98);
}

void
rig_start(struct rig *r)
{
	struct msg_start s = { .h = { .type = MSG_START, .generation = ++r->generation },
		.role = ROLE_TLSD };
	struct msg_go go = { .h = { .type = MSG_GO, .generation = r->generation } };
	struct pollfd p;
	union msg m;
	int pair[2], fd;

	if (r->conf_fd > 0)
		close(r->conf_fd);
	r->conf_fd = memfd_of(&r->conf, sizeof r->conf);
	RIG_ASSERT(ipc_pair(pair) == 0);
	r->pid = fork();
	RIG_ASSERT(r->pid >= 0);
	if (r->pid == 0)
		child(r, pair[1]);
	close(pair[1]);
	r->control = pair[0];
	for (unsigned i = 0; i <= SHARDS_MAX; i++)
		s.peer_fd[i] = i == 0 ? FD_LINK : -1;
	s.conf_fd = FD_CONF;
	s.certs_fd = FD_CERTS;
	s.stat_fd = FD_STAT;
	s.users_fd = s.secret_fd = s.cross_fd = s.authd_fd = -1;
	RIG_ASSERT(ipc_send(r->control, &s, -1) == 0);
	RIG_ASSERT(ipc_send(r->control, &go, -1) == 0);
	p = (struct pollfd){ .fd = r->control, .events = POLLIN };
	RIG_ASSERT(poll(&p, 1, 60000) == 1);
	if (ipc_recv(r->control, ROLE_TLSD, ROLE_SUPER, &m, &fd) != 1 || m.h.type != MSG_READY) {
		rig_say(r);
		RIG_ASSERT(m.h.type == MSG_READY);
	}
}

static int
end(struct rig *r)
{
	int status;

	RIG_ASSERT(waitpid(r->pid, &status, 0) == r->pid);
	close(r->control);
	r->pid = 0;
	return status;
}

void
rig_kill(struct rig *r)
{
	kill(r->pid, SIGKILL);
	end(r);
}

void
rig_fini(struct rig *r)
{
	struct msg_stop stop = { .h = { .type = MSG_STOP, .generation = r->generation } };
	int status;

	RIG_ASSERT(ipc_send(r->control, &stop, -1) == 0);
	status = end(r);
	rig_say(r);
	RIG_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	munmap(r->stat, STAT_SIZE);
	int fds[] = { r->link, r->tlsd_link, r->log[0], r->log[1], r->conf_fd, r->certs_fd, r->stat_fd };
	for (unsigned i = 0; i < TP_COUNT(fds); i++)
		close(fds[i]);
	seal_ctx_fini(&r->seal);
}

void
rig_certs(struct rig *r, const char *tag)
{
	struct msg_certs m = { .h = { .type = MSG_CERTS, .generation = r->generation } };

	close(r->certs_fd);
	r->certs_fd = make_certs(tag);
	if (r->pid != 0)
		RIG_ASSERT(ipc_send(r->control, &m, r->certs_fd) == 0);
}

void
rig_say(struct rig *r)
{
	struct log_rec rec;

	while (recv(r->log[0], &rec, sizeof rec, MSG_DONTWAIT) > (ssize_t)LOG_REC_HEAD)
		fprintf(stderr, "turnpike-tls: %.*s\n", rec.len, rec.text);
}

uint64_t
rig_count(const struct rig *r, enum stat_counter c)
{
	return atomic_load((_Atomic uint64_t *)&r->stat->counter[c]);
}

bool
rig_until(const struct rig *r, enum stat_counter c, uint64_t value)
{
	for (unsigned i = 0; i < 6000 && rig_count(r, c) != value; i++)
		usleep(10000);
	return rig_count(r, c) == value;
}

/* ---- messages ------------------------------------------------------------------------------------- */

void
rig_send(struct rig *r, const void *msg, int fd)
{
	int e;

	while ((e = ipc_send(r->link, msg, fd)) == -EAGAIN) {
		struct pollfd p = { .fd = r->link, .events = POLLOUT };
		union msg drop;
		int none;

		poll(&p, 1, 10);
		while (ipc_recv(r->link, ROLE_TLSD, ROLE_WORKER, &drop, &none) == 1)
			; /* both queues are full: one must be read */
	}
	RIG_ASSERT(e == 0);
}

bool
rig_recv(struct rig *r, union msg *m, int ms)
{
	struct pollfd p = { .fd = r->link, .events = POLLIN };
	int fd, n;

	if (poll(&p, 1, ms) != 1)
		return false;
	n = ipc_recv(r->link, ROLE_TLSD, ROLE_WORKER, m, &fd);
	RIG_ASSERT(n >= 0 && fd < 0);
	return n == 1;
}

bool
rig_recv_type(struct rig *r, union msg *m, uint32_t type, int ms)
{
	for (tp_ms end_at = clock_ms() + (tp_ms)ms; clock_ms() < end_at;)
		if (rig_recv(r, m, 20) && m->h.type == type)
			return true;
	return false;
}

/* ---- a client ------------------------------------------------------------------------------------- */

void
party_init(
    struct party *p, struct rig *r, int version, const char *suites, const char *sni, uint64_t request)
{
	bool dtls = version == DTLS1_2_VERSION;

	memset(p, 0, sizeof *p);
	p->r = r;
	p->who.request = dtls ? 0 : request;
	p->who.dtls = dtls;
	p->who.row = 1;
	RIG_ASSERT(addr_parse(&p->who.client, "192.0.2.1:1") == 0);
	p->who.client.port = (uint16_t)request;
	RIG_ASSERT(socketpair(AF_UNIX, (dtls ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
		       p->fd) == 0);
	p->ctx = SSL_CTX_new(dtls ? DTLS_client_method() : TLS_client_method());
	SSL_CTX_set_min_proto_version(p->ctx, version);
	SSL_CTX_set_max_proto_version(p->ctx, version);
	if (suites != NULL && version == TLS1_3_VERSION)
		RIG_ASSERT(SSL_CTX_set_ciphersuites(p->ctx, suites) == 1);
	else if (suites != NULL)
		RIG_ASSERT(SSL_CTX_set_cipher_list(p->ctx, suites) == 1);
	p->client = SSL_new(p->ctx);
	if (dtls) {
		BIO *b = BIO_new_dgram(p->fd[0], BIO_NOCLOSE);
		struct sockaddr_storage none = { .ss_family = AF_INET };

		BIO_ctrl(b, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &none);
		SSL_set_bio(p->client, b, b);
		SSL_set_options(p->client, SSL_OP_NO_QUERY_MTU);
		SSL_set_mtu(p->client, 1200);
	} else {
		SSL_set_fd(p->client, p->fd[0]);
	}
	if (sni != NULL)
		SSL_set_tlsext_host_name(p->client, sni);
	SSL_set_connect_state(p->client);
}

void
party_start(struct party *p)
{
	struct msg_hs_stream m = { .h = { .type = MSG_HS_STREAM }, .who = p->who };

	if (!p->who.dtls)
		rig_send(p->r, &m, p->fd[1]);
}

static bool
is_ours(const struct party *p, const struct hs_who *w)
{
	return w->request == p->who.request && w->dtls == p->who.dtls &&
	    addr_eq(&w->client, &p->who.client) && w->shard == p->who.shard && w->row == p->who.row;
}

static void
take_done(struct party *p, const struct msg_hs_done *d)
{
	struct msg_hs_ack ack = { .h = { .type = MSG_HS_ACK }, .who = d->who };
	size_t at = 0;

	p->last.msg_hs_done = *d;
	if (!p->done) {
		memcpy(&p->s, d->session, sizeof p->s);
		for (unsigned i = 0; i < d->pieces; at += d->piece[i++])
			RIG_ASSERT(send(p->fd[1], d->flight + at, d->piece[i], 0) == d->piece[i]);
	}
	p->done = true;
	if (!p->no_ack)
		rig_send(p->r, &ack, -1);
}

void
party_handle(struct party *p, const union msg *m)
{
	if (m->h.type == MSG_HS_DONE && is_ours(p, &m->msg_hs_done.who)) {
		take_done(p, &m->msg_hs_done);
	} else if (m->h.type == MSG_HS_FAIL && is_ours(p, &m->msg_hs_fail.who)) {
		p->failed = true;
		p->reason = m->msg_hs_fail.reason;
	} else if (m->h.type == MSG_HS_REPLY && is_ours(p, &m->msg_hs_reply.who)) {
		p->replies++;
		RIG_ASSERT(m->msg_hs_reply.len <= 1200);
		if (!p->hold_replies)
			send(p->fd[1], m->msg_hs_reply.datagram, m->msg_hs_reply.len, 0);
	}
}

static void
send_datagram(struct party *p, const uint8_t *d, size_t n, bool hello)
{
	struct msg_hs_datagram m = {
		.h = { .type = MSG_HS_DATAGRAM }, .who = p->who, .hello = hello, .len = (uint16_t)n
	};

	memcpy(m.datagram, d, n);
	rig_send(p->r, &m, -1);
}

/* What a worker does with datagrams of a client without a session. */
void
party_pump(struct party *p)
{
	uint8_t d[2048], reply[SEAL_VERIFY_LEN];
	struct seal_dhead head;
	ssize_t n;

	while (p->who.dtls && !p->done && (n = recv(p->fd[1], d, sizeof d, 0)) > 0) {
		RIG_ASSERT(seal_dtls_head(&head, d, (size_t)n) > 0);
		if (head.dclass != SEAL_D_HELLO) {
			send_datagram(p, d, (size_t)n, false);
			continue;
		}
		switch (seal_hello_judge(&p->r->cookies, &p->who.client, d, (size_t)n, reply)) {
		case SEAL_V_VERIFY:
			p->verifies++;
			memcpy(p->first, d, (size_t)n);
			p->first_len = (size_t)n;
			send(p->fd[1], reply, sizeof reply, 0);
			break;
		case SEAL_V_PASS:
			memcpy(p->hello, d, (size_t)n);
			p->hello_len = (size_t)n;
			send_datagram(p, d, (size_t)n, true);
			break;
		case SEAL_V_PART:
			if (p->hello_len > 0)
				send_datagram(p, d, (size_t)n, true);
			break;
		case SEAL_V_REST:
		case SEAL_V_DROP:
			break;
		}
	}
}

void
party_run(struct party *p, int ms)
{
	union msg m;
	int rc = 0;

	for (tp_ms until = clock_ms() + (tp_ms)ms; clock_ms() < until && !p->failed;) {
		if (rc != 1) {
			ERR_clear_error();
			rc = SSL_do_handshake(p->client);
			if (rc != 1 && p->client_error == 0)
				p->client_error = ERR_GET_REASON(ERR_peek_error());
			/* As early as the protocol allows: behind its Finished, and turnpike-tls must
			 * leave it alone. */
			if (rc == 1 && SSL_version(p->client) == TLS1_3_VERSION)
				RIG_ASSERT(SSL_write(p->client, "early", 5) == 5);
		}
		party_pump(p);
		if (rig_recv(p->r, &m, 2))
			party_handle(p, &m);
		if (p->who.dtls)
			DTLSv1_handle_timeout(p->client);
		if ((rc == 1 && p->done) || (p->hold_replies && p->replies > 0))
			break;
	}
	ERR_clear_error();
}

static size_t
read_stream(struct party *p, uint8_t *out, size_t room)
{
	static uint8_t rec[SEAL_RECORD_MAX];
	struct seal_pos next;
	struct seal_in in;
	int len = 5;
	size_t have = 0;

	while (have < (size_t)len) {
		ssize_t n = recv(p->fd[1], rec + have, (size_t)len - have, 0);

		if (n <= 0 && have == 0)
			return 0;
		RIG_ASSERT(n > 0 || errno == EAGAIN);
		have += n > 0 ? (size_t)n : 0;
		if (have == 5)
			len = seal_stream_len(&p->s.keys, rec, have);
		RIG_ASSERT(len > 0);
	}
	RIG_ASSERT(seal_open(&p->s.keys, &p->s.pos, &p->r->seal, rec, have, out, room, &in, &next) == 0);
	p->s.pos = next;
	RIG_ASSERT(in.kind == SEAL_DATA);
	memmove(out, in.data, in.len);
	return in.len;
}

size_t
party_read(struct party *p, uint8_t *out, size_t room)
{
	uint8_t d[2048];
	struct seal_dhead head;
	struct seal_in in;
	ssize_t n;

	if (!p->who.dtls)
		return read_stream(p, out, room);
	while ((n = recv(p->fd[1], d, sizeof d, 0)) > 0) {
		if (seal_dtls_head(&head, d, (size_t)n) != n || head.dclass != SEAL_D_SESSION)
			continue;
		RIG_ASSERT(seal_window_fresh(&p->s.dtls, head.seq));
		RIG_ASSERT(seal_dtls_open(&p->s.keys, &p->r->seal, d, (size_t)n, out, room, &in) == 0);
		seal_window_mark(&p->s.dtls, head.seq);
		if (in.kind != SEAL_DATA)
			continue;
		memmove(out, in.data, in.len);
		return in.len;
	}
	return 0;
}

void
party_write(struct party *p, const void *data, size_t n)
{
	uint8_t rec[4096];
	struct seal_pos next;
	uint64_t seq;
	int len;

	if (p->who.dtls) {
		RIG_ASSERT(seal_dtls_take(&p->s.dtls, &seq) == 0);
		len = seal_dtls_seal(&p->s.keys, &p->r->seal, seq, SEAL_T_DATA, data, n, rec, sizeof rec);
	} else {
		len = seal_seal(
		    &p->s.keys, &p->s.pos, &p->r->seal, SEAL_T_DATA, data, n, rec, sizeof rec, &next);
		p->s.pos = next;
	}
	RIG_ASSERT(len > 0 && send(p->fd[1], rec, (size_t)len, 0) == len);
}

void
party_echo(struct party *p, const char *text)
{
	uint8_t buf[SEAL_RECORD_MAX];
	size_t n;

	if (SSL_version(p->client) == TLS1_3_VERSION)
		RIG_ASSERT(party_read(p, buf, sizeof buf) == 5 && memcmp(buf, "early", 5) == 0);
	for (unsigned i = 0; i < 3; i++) {
		RIG_ASSERT(SSL_write(p->client, text, (int)strlen(text)) == (int)strlen(text));
		n = party_read(p, buf, sizeof buf);
		RIG_ASSERT(n == strlen(text) && memcmp(buf, text, n) == 0);
		party_write(p, buf, n);
		memset(buf, 0, sizeof buf);
		RIG_ASSERT(SSL_read(p->client, buf, sizeof buf) == (int)n && memcmp(buf, text, n) == 0);
	}
}

void
party_fini(struct party *p)
{
	SSL_free(p->client);
	SSL_CTX_free(p->ctx);
	close(p->fd[0]);
	close(p->fd[1]);
	ERR_clear_error();
}
