/* SPDX-License-Identifier: BSD-3-Clause */
/* worker_client.c: the test's client and peers. */
#include "config.h"

#include <sodium.h>
#include <unistd.h>

#include "check_worker.h"

#define WAIT_MS 30000

int
peer_open(struct addr *a)
{
	ck_assert_int_eq(addr_parse(a, "127.0.0.1"), 0);
	int fd = sock_relay_udp(a, 1 << 18);
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(sock_filter_detach(fd), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	ck_assert_int_eq(addr_from_sockaddr(a, (struct sockaddr *)&ss), 0);
	return fd;
}

void
peer_send(int fd, const struct addr *to, const void *p, size_t len)
{
	struct sockaddr_storage ss;
	socklen_t ss_len = addr_to_sockaddr(to, &ss);

	ck_assert_int_eq(sendto(fd, p, len, 0, (struct sockaddr *)&ss, ss_len), (ssize_t)len);
}

ssize_t
peer_recv(int fd, void *buf, size_t len, struct addr *from)
{
	struct sockaddr_storage ss;
	socklen_t ss_len = sizeof ss;

	if (!world_pump_until(fd, WAIT_MS))
		return -1;
	ssize_t n = recvfrom(fd, buf, len, MSG_DONTWAIT, (struct sockaddr *)&ss, &ss_len);
	ck_assert_int_eq(addr_from_sockaddr(from, (struct sockaddr *)&ss), 0);
	return n;
}

void
client_open(struct client *c)
{
	memset(c, 0, sizeof *c);
	c->fd = peer_open(&c->addr);
	c->key_len = stun_key(STUN_ALG_MD5, USER, sizeof USER - 1, REALM, sizeof REALM - 1, PASSWORD,
	    sizeof PASSWORD - 1, c->key);
}

void
client_close(struct client *c)
{
	close(c->fd);
}

void
client_seal(struct client *c, uint8_t type, const void *p, size_t len)
{
	uint8_t out[800];
	uint64_t seq;

	ck_assert_int_eq(seal_dtls_take(&c->pos, &seq), 0);
	int n = seal_dtls_seal(&c->keys, c->seal, seq, type, p, len, out, sizeof out);
	ck_assert_int_gt(n, 0);
	peer_send(c->fd, &world.server, out, (size_t)n);
}

void
client_send(struct client *c, const void *p, size_t len)
{
	if (c->seal != NULL) {
		client_seal(c, SEAL_T_DATA, p, len);
		return;
	}
	peer_send(c->fd, &world.server, p, len);
}

bool
client_recv(struct client *c)
{
	struct addr from;
	ssize_t n = peer_recv(c->fd, c->in, sizeof c->in, &from);

	if (n < 0)
		return false;
	ck_assert(addr_eq(&from, &world.server));
	c->in_len = (size_t)n;
	if (c->seal != NULL) {
		struct seal_in in;
		uint8_t *out = c->in + seal_before(&c->keys);
		ck_assert_int_eq(seal_dtls_open(&c->keys, c->seal, c->in, (size_t)n, out,
				     sizeof c->in - seal_before(&c->keys), &in),
		    0);
		ck_assert_int_eq(in.kind, SEAL_DATA);
		memmove(c->in, in.data, in.len);
		c->in_len = in.len;
	}
	c->code = 0;
	if (n > 0 && frame_kind(c->in[0]) == FRAME_STUN) {
		ck_assert_int_eq(stun_parse(&c->msg, c->in, c->in_len), STUN_OK);
		const struct stun_attr *e = stun_find(&c->msg, STUN_A_ERROR_CODE);
		if (e != NULL && e->len >= 4)
			c->code = e->value[2] * 100u + e->value[3];
	}
	return true;
}

static size_t
build(struct client *c, uint8_t *buf, size_t cap, uint16_t method, const struct addr *peer,
    uint16_t channel, int lifetime)
{
	uint8_t txid[STUN_TXID];
	struct stun_out o;

	randombytes_buf(txid, sizeof txid);
	stun_begin(&o, buf, cap, STUN_REQUEST, method, txid);
	if (method == STUN_ALLOCATE)
		stun_put_u32(&o, STUN_A_REQUESTED_TRANSPORT, 17u << 24);
	if (channel != 0)
		stun_put_u32(&o, STUN_A_CHANNEL_NUMBER, (uint32_t)channel << 16);
	if (peer != NULL)
		stun_put_xaddr(&o, STUN_A_XOR_PEER_ADDRESS, peer);
	if (lifetime >= 0)
		stun_put_u32(&o, STUN_A_LIFETIME, (uint32_t)lifetime);
	if (c->nonce_len > 0) {
		stun_put_bytes(&o, STUN_A_USERNAME, USER, sizeof USER - 1);
		stun_put_bytes(&o, STUN_A_REALM, REALM, sizeof REALM - 1);
		stun_put_bytes(&o, STUN_A_NONCE, c->nonce, c->nonce_len);
		stun_put_mi(&o, c->key, c->key_len);
	}
	return stun_end(&o);
}

int
client_request(struct client *c, uint16_t method, const struct addr *peer, uint16_t channel, int lifetime)
{
	uint8_t buf[600];
	size_t len = build(c, buf, sizeof buf, method, peer, channel, lifetime);

	ck_assert_uint_gt(len, 0);
	client_send(c, buf, len);
	ck_assert_msg(client_recv(c), "no answer to %s", stun_method_name(method));
	ck_assert_mem_eq(c->msg.txid, buf + 8, STUN_TXID);
	const struct stun_attr *nonce = stun_find(&c->msg, STUN_A_NONCE);
	if (nonce != NULL) {
		ck_assert_uint_le(nonce->len, sizeof c->nonce);
		memcpy(c->nonce, nonce->value, nonce->len);
		c->nonce_len = nonce->len;
	}
	return c->msg.cls;
}

void
client_allocate(struct client *c)
{
	ck_assert_int_eq(client_request(c, STUN_ALLOCATE, NULL, 0, -1), STUN_ERROR);
	ck_assert_uint_eq(c->code, 401);
	int cls = client_request(c, STUN_ALLOCATE, NULL, 0, -1);
	ck_assert_msg(cls == STUN_SUCCESS, "Allocate: %u", c->code);
	ck_assert(stun_check_mi(&c->msg, c->key, c->key_len));
	const struct stun_attr *a = stun_find(&c->msg, STUN_A_XOR_RELAYED_ADDRESS);
	ck_assert_ptr_nonnull(a);
	ck_assert(stun_get_xaddr(&c->msg, a, &c->relayed));
}
