/* SPDX-License-Identifier: BSD-3-Clause */
/* load_control.c: a flow's requests, one at a time, retransmitted until answered (RFC 8489 6.2.1). */
#include "config.h"

#include <stdio.h>

#include "load_int.h"

#define RTO_NS       250000000ull
#define RTO_MAX_NS   2000000000ull
#define TRIES        7
#define RELIABLE_NS  39500000000ull /* RFC 8489 6.2.2 */
#define FAREWELL_NS  5000000000ull  /* the longest wait for the answer to a Refresh of 0 s */
#define CONNECT_NS   30000000000ull
#define AUTHD_NS     240000000000ull
#define MOVES        10
#define REQUEST_MAX  2048
#define PROTOCOL_UDP (17u << 24)

static const uint16_t channel_first = CHANNEL_MIN;

static void
new_txid(struct worker *w, struct flow *f)
{
	/* Unique within the run is enough: only the server answers on a connected socket. */
	put_u32(f->txid, w->session);
	put_u32(f->txid + 4, f->id);
	put_u32(f->txid + 8, get_u32(f->txid + 8) + 1);
}

static void
put_auth(struct worker *w, struct flow *f, struct stun_out *o)
{
	if (!f->challenged)
		return;
	stun_put_bytes(o, STUN_A_USERNAME, w->user, strlen(w->user));
	stun_put_bytes(o, STUN_A_REALM, w->realm, strlen(w->realm));
	stun_put_bytes(o, STUN_A_NONCE, f->nonce, f->nonce_len);
	stun_put_mi(o, w->key, w->key_len);
}

static uint16_t
method_of(const struct worker *w, const struct flow *f)
{
	switch (f->step) {
	case CTL_BINDING:
		return STUN_BINDING;
	case CTL_ALLOCATE:
		return STUN_ALLOCATE;
	case CTL_BIND:
	case CTL_REBIND:
		return w->o->indications ? STUN_CREATE_PERMISSION : STUN_CHANNEL_BIND;
	default:
		return STUN_REFRESH;
	}
}

static size_t
build(struct worker *w, struct flow *f, uint8_t *buf, size_t cap)
{
	const struct addr *peer = &w->peers[f->peer].addr;
	struct stun_out o;

	stun_begin(&o, buf, cap, STUN_REQUEST, method_of(w, f), f->txid);
	switch (f->step) {
	case CTL_BINDING:
		break;
	case CTL_ALLOCATE:
		stun_put_u32(&o, STUN_A_REQUESTED_TRANSPORT, PROTOCOL_UDP);
		stun_put_u32(&o, STUN_A_LIFETIME, w->o->lifetime);
		if (peer->family == ADDR_V6)
			stun_put_u32(&o, STUN_A_REQUESTED_ADDRESS_FAMILY, 2u << 24);
		break;
	case CTL_BIND:
	case CTL_REBIND:
		if (!w->o->indications)
			stun_put_u32(&o, STUN_A_CHANNEL_NUMBER, (uint32_t)f->channel << 16);
		stun_put_xaddr(&o, STUN_A_XOR_PEER_ADDRESS, peer);
		break;
	default:
		stun_put_u32(&o, STUN_A_LIFETIME, f->step == CTL_FREE ? 0 : w->o->lifetime);
		break;
	}
	put_auth(w, f, &o);
	return stun_end(&o);
}

/* The hello of the bare forwarder: a frame on channel 0x4fff with family, port and address of the peer; the
 * answer has those of the relay socket. */
static size_t
build_hello(struct worker *w, struct flow *f, uint8_t *buf)
{
	const struct addr *peer = &w->peers[f->peer].addr;

	channel_header(buf, BARE_CHANNEL, sizeof *peer);
	memcpy(buf + CHANNEL_HEADER, peer, sizeof *peer);
	put_u16(buf + CHANNEL_HEADER + sizeof *peer, f->channel);
	return CHANNEL_HEADER + sizeof *peer + 2;
}

static void
send_request(struct worker *w, struct flow *f, uint64_t now)
{
	uint8_t buf[REQUEST_MAX];
	uint64_t rto = RTO_NS << (f->tries < 8 ? f->tries : 8);
	size_t n = w->o->bare ? build_hello(w, f, buf) : build(w, f, buf, sizeof buf);

	assert(n > 0);
	if (w->transport->reliable)
		f->deadline = now + (f->step == CTL_FREE ? FAREWELL_NS : RELIABLE_NS);
	else
		f->deadline = now + (rto < RTO_MAX_NS ? rto : RTO_MAX_NS);
	f->tries++;
	/* An error here is a lost packet: the retransmission sees to it. */
	(void)w->transport->control(w, f, buf, n);
}

static void
begin(struct worker *w, struct flow *f, enum ctl_step step, uint64_t now)
{
	f->step = (uint8_t)step;
	f->tries = 0;
	new_txid(w, f);
	send_request(w, f, now);
}

static void
end(struct worker *w, struct flow *f, enum ctl_step step, uint16_t error, uint64_t now)
{
	f->step = (uint8_t)step;
	f->error = error;
	worker_flow_changed(w, f, now);
}

static void
prepare_head(struct worker *w, struct flow *f)
{
	uint8_t room[STUN_DATA_HEADROOM + PAYLOAD_MAX + 4], *start;
	size_t total, n = w->o->payload;

	if (!w->o->indications) {
		channel_header(f->head, f->channel, (uint16_t)n);
		f->head_len = CHANNEL_HEADER;
		return;
	}
	/* A Send indication differs from a Data indication in the method only. */
	new_txid(w, f);
	memset(room, 0, sizeof room);
	start = stun_data_indication(
	    room + STUN_DATA_HEADROOM, n, &w->peers[f->peer].addr, f->txid, &total);
	f->head_len = (uint8_t)(room + STUN_DATA_HEADROOM - start);
	put_u16(start, 0x0016);
	memcpy(f->head, start, f->head_len);
}

static void
ready(struct worker *w, struct flow *f, uint64_t now)
{
	f->ready_at = now;
	f->refresh_at = now + f->authd_ns;
	hist_add(&w->setup_hist, now - f->began);
	if (w->o->mode != LOAD_CONNECT)
		prepare_head(w, f);
	end(w, f, CTL_READY, 0, now);
}

static void
learn_relayed(struct worker *w, struct flow *f, const struct addr *a)
{
	uint32_t *first = &w->by_port[a->port];

	f->relayed = *a;
	f->relayed_len = addr_to_sockaddr(a, &f->relayed_sa);
	f->next_by_port = *first;
	*first = f->index + 1;
}

struct flow *
ctl_by_relayed(const struct worker *w, const struct addr *a)
{
	for (uint32_t i = w->by_port[a->port]; i != 0; i = w->flows[i - 1].next_by_port)
		if (addr_eq(&w->flows[i - 1].relayed, a))
			return &w->flows[i - 1];
	return NULL;
}

static void
reach(struct worker *w, struct flow *f, uint64_t now)
{
	int err;

	f->challenged = false;
	f->closed = false;
	f->authd_ns = AUTHD_NS;
	f->connected_at = now; /* begun; ctl_connected() takes the difference */
	f->step = CTL_CONNECT;
	f->tries = 0;
	f->deadline = now + CONNECT_NS;
	err = w->transport->open(w, f);
	if (err < 0) {
		worker_why(w, strerror(-err));
		end(w, f, CTL_FAILED, ERROR_SOCKET, now);
	} else if (err == 0) {
		begin(w, f, w->o->mode == LOAD_CONNECT ? CTL_BINDING : CTL_ALLOCATE, now);
	}
}

void
ctl_start(struct worker *w, struct flow *f, uint64_t now)
{
	f->channel = (uint16_t)(channel_first + f->id % 0x0fff);
	f->began = now;
	reach(w, f, now);
}

void
ctl_connected(struct worker *w, struct flow *f, uint64_t now)
{
	hist_add(&w->connect_hist, now - f->connected_at);
	f->connected_at = now;
	begin(w, f, w->o->mode == LOAD_CONNECT ? CTL_BINDING : CTL_ALLOCATE, now);
}

void
ctl_closed(struct worker *w, struct flow *f, uint16_t error, uint64_t now)
{
	switch (f->step) {
	case CTL_REFRESH:
	case CTL_REBIND:
		w->refresh_lost++;
		f->lost_refresh = 1;
		__attribute__((fallthrough));
	case CTL_READY:
		/* Stays a session, one that has stopped. */
		f->step = CTL_READY;
		f->closed = true;
		f->closed_at = now;
		f->error = error;
		w->errors[error]++;
		break;
	case CTL_FREE:
		end(w, f, CTL_DONE, error, now);
		break;
	case CTL_DONE:
	case CTL_FAILED:
		break;
	default:
		end(w, f, CTL_FAILED, error, now);
		break;
	}
}

void
ctl_free(struct worker *w, struct flow *f, uint64_t now)
{
	if (w->o->bare || w->o->mode == LOAD_CONNECT)
		end(w, f, CTL_DONE, 0, now);
	else
		begin(w, f, CTL_FREE, now);
}

static void
ctl_keep(struct worker *w, struct flow *f, uint64_t now)
{
	f->refresh_at = now + f->authd_ns;
	if (!w->o->bare)
		begin(w, f, CTL_REFRESH, now);
}

static void
learn_challenge(struct worker *w, struct flow *f, const struct stun_msg *m)
{
	const struct stun_attr *realm = stun_find(m, STUN_A_REALM), *nonce = stun_find(m, STUN_A_NONCE);

	if (nonce != NULL && nonce->len <= sizeof f->nonce) {
		memcpy(f->nonce, nonce->value, nonce->len);
		f->nonce_len = nonce->len;
	}
	if (realm != NULL && realm->len <= STUN_REALM_MAX &&
	    (strlen(w->realm) != realm->len || memcmp(w->realm, realm->value, realm->len) != 0 ||
		w->key_len == 0)) {
		memcpy(w->realm, realm->value, realm->len);
		w->realm[realm->len] = '\0';
		w->key_len = stun_key(STUN_ALG_MD5, w->user, strlen(w->user), w->realm, realm->len,
		    w->password, strlen(w->password), w->key);
	}
}

static uint16_t
error_code(const struct stun_msg *m)
{
	const struct stun_attr *a = stun_find(m, STUN_A_ERROR_CODE);

	return a != NULL && a->len >= 4 ? (uint16_t)((a->value[2] & 7) * 100 + a->value[3]) : 0;
}

static void
move(struct worker *w, struct flow *f, uint64_t now)
{
	w->transport->close(w, f);
	reach(w, f, now);
}

static void
refused(struct worker *w, struct flow *f, const struct stun_msg *m, uint64_t now)
{
	uint16_t code = error_code(m);

	if ((code == STUN_E_UNAUTHENTICATED && !f->challenged) ||
	    (code == STUN_E_STALE_NONCE && f->tries < TRIES)) {
		uint8_t tries = f->tries;

		f->challenged = true;
		learn_challenge(w, f, m);
		begin(w, f, f->step, now);
		f->tries = code == STUN_E_STALE_NONCE ? (uint8_t)(tries + 1) : 1;
	} else if (code == STUN_E_ALLOCATION_MISMATCH && f->step == CTL_ALLOCATE && f->moved < MOVES) {
		/* The server still knows the port from an earlier session: another one (RFC 8656 7.4). */
		f->moved++;
		move(w, f, now);
	} else if (f->step == CTL_REFRESH || f->step == CTL_REBIND) {
		/* The data may flow all the same: hold says what did. */
		f->lost_refresh = 1;
		f->error = code;
		w->errors[code < ERRORS_MAX ? code : 0]++;
		w->refresh_lost++;
		f->step = CTL_READY;
	} else if (f->step == CTL_FREE) {
		end(w, f, CTL_DONE, code, now);
	} else {
		end(w, f, CTL_FAILED, code, now);
	}
}

/* Permissions live for 300 s, the allocation for what was granted: half of that leaves time for a
 * second try. */
static void
learn_lifetime(struct flow *f, const struct stun_msg *m)
{
	const struct stun_attr *a = stun_find(m, STUN_A_LIFETIME);
	uint64_t half = a != NULL && a->len == 4 ? get_u32(a->value) * 500000000ull : AUTHD_NS;

	f->authd_ns = half < AUTHD_NS ? half : AUTHD_NS;
}

static void
granted(struct worker *w, struct flow *f, const struct stun_msg *m, uint64_t now)
{
	struct addr relayed;

	switch (f->step) {
	case CTL_BINDING:
		ready(w, f, now);
		break;
	case CTL_ALLOCATE:
		if (!stun_get_xaddr(m, stun_find(m, STUN_A_XOR_RELAYED_ADDRESS), &relayed)) {
			end(w, f, CTL_FAILED, 0, now);
			return;
		}
		learn_relayed(w, f, &relayed);
		learn_lifetime(f, m);
		begin(w, f, CTL_BIND, now);
		break;
	case CTL_BIND:
		ready(w, f, now);
		break;
	case CTL_REFRESH:
		learn_lifetime(f, m);
		f->refresh_at = now + f->authd_ns;
		begin(w, f, CTL_REBIND, now);
		break;
	case CTL_REBIND:
		f->step = CTL_READY;
		break;
	default:
		end(w, f, CTL_DONE, 0, now);
		break;
	}
}

static void
hello_answer(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now)
{
	struct addr relayed;

	if (f->step != CTL_ALLOCATE || n < CHANNEL_HEADER + sizeof relayed)
		return;
	memcpy(&relayed, p + CHANNEL_HEADER, sizeof relayed);
	learn_relayed(w, f, &relayed);
	ready(w, f, now);
}

void
ctl_input(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now)
{
	struct stun_msg m;

	if (w->o->bare) {
		hello_answer(w, f, p, n, now);
		return;
	}
	if (stun_parse(&m, p, n) != STUN_OK || !ctl_waiting(f) || memcmp(m.txid, f->txid, STUN_TXID) != 0)
		return; /* an answer to an earlier try, or damaged: retransmission decides */
	if (m.cls == STUN_ERROR)
		refused(w, f, &m, now);
	else if (m.cls == STUN_SUCCESS && (!f->challenged || stun_check_mi(&m, w->key, w->key_len)))
		granted(w, f, &m, now);
}

static void
give_up(struct worker *w, struct flow *f, uint64_t now)
{
	if (f->step == CTL_REFRESH || f->step == CTL_REBIND) {
		f->lost_refresh = 1;
		f->error = ERROR_TIMEOUT;
		w->errors[ERROR_TIMEOUT]++;
		w->refresh_lost++;
		f->step = CTL_READY;
	} else {
		end(w, f, f->step == CTL_FREE ? CTL_DONE : CTL_FAILED, ERROR_TIMEOUT, now);
	}
}

void
ctl_tick(struct worker *w, uint64_t now)
{
	for (unsigned i = 0; i < w->n; i++) {
		struct flow *f = &w->flows[i];

		bool last = f->tries >= TRIES || w->transport->reliable || f->step == CTL_CONNECT;

		if (f->step == CTL_READY && now >= f->refresh_at && !f->closed)
			ctl_keep(w, f, now);
		else if (f->step == CTL_CONNECT && now < f->deadline && w->transport->tick != NULL)
			w->transport->tick(w, f);
		else if (ctl_waiting(f) && now >= f->deadline && last)
			give_up(w, f, now);
		else if (ctl_waiting(f) && now >= f->deadline)
			send_request(w, f, now);
	}
}
