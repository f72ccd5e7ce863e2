/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_turn.c: the whole TURN core with state: bytes become a run of inputs in virtual time, from four
 * clients on two shards, many of them with valid credentials, and of a peer.  At the end the state and the
 * books about sockets must hold.
 *
 * A step is: operation, client, then what it needs.  Running out of bytes ends the run.
 */
#include "config.h"

#include "fuzz.h"
#include "../scenario/world.h"

#define CLIENTS 4

struct run {
	struct world *w;
	struct rd in;
	struct turn_out out;
	uint32_t serial;
	uint8_t token[8];
	uint8_t nonce[CLIENTS][NONCE_LEN];
	bool has_nonce[CLIENTS];
	uint8_t key[STUN_KEY_MAX];
};

static struct addr
client_addr(unsigned i)
{
	return (struct addr){
		.family = ADDR_V4, .port = (uint16_t)(5000 + i), .ip = { 192, 0, 2, (uint8_t)(1 + i / 2) }
	};
}

static unsigned
client_shard(unsigned i)
{
	return i & 1;
}

static struct addr
peer_addr(struct run *r)
{
	uint8_t which = rd_u8(&r->in);
	struct addr a = {
		.family = ADDR_V4, .port = (uint16_t)(which >> 6), .ip = { 8, 8, 8, which & 15 }
	};

	if (which & 16)
		a = (struct addr){ .family = ADDR_V6, .port = 9, .ip = { 0x24, 0, [15] = which & 15 } };
	else if (which & 32)
		a = (struct addr){ .family = ADDR_V4,
			.port = (uint16_t)(50000 + (which & 15)),
			.ip = { 203, 0, 113, 1 } };
	return a;
}

static void
learn(struct run *r, unsigned c)
{
	const struct stun_attr *a;
	struct stun_msg m;

	FUZZ_ASSERT(stun_parse(&m, r->out.p, r->out.len) == STUN_OK);
	FUZZ_ASSERT(m.cls == STUN_SUCCESS || m.cls == STUN_ERROR);
	for (unsigned i = 0; i < m.count; i++)
		for (const uint8_t *p = m.attr[i].value + m.attr[i].len; (p - m.raw) % 4 != 0; p++)
			FUZZ_ASSERT(*p == 0);
	a = stun_find(&m, STUN_A_NONCE);
	if (a != NULL && a->len == NONCE_LEN) {
		memcpy(r->nonce[c], a->value, NONCE_LEN);
		r->has_nonce[c] = true;
	}
	a = stun_find(&m, STUN_A_RESERVATION_TOKEN);
	if (a != NULL && a->len == 8)
		memcpy(r->token, a->value, 8);
}

static bool
is_stranger(const struct run *r, unsigned c)
{
	struct addr a = client_addr(c);

	return c != 3 && session_find(&r->w->shard[client_shard(c)], &a, TRANSPORT_UDP, 0) == NULL;
}

static void
input(struct run *r, unsigned c, const uint8_t *p, size_t len)
{
	struct addr a = client_addr(c);
	enum turn_act act = world_input(r->w, client_shard(c), &a, c == 3 ? 2 : 1, p, len, &r->out);

	FUZZ_ASSERT(act != TURN_NEED_KEY && act != TURN_NEED_RELAY);
	FUZZ_ASSERT((act == TURN_DROP) == (r->out.drop != DROP_NONE));
	if (act == TURN_TO_PEER)
		FUZZ_ASSERT(r->out.fd >= 0 && r->w->fate[r->out.fd] == FD_LIVE && r->out.to.port != 0);
	if (act != TURN_TO_CLIENT)
		return;
	if (r->out.event == EV_NONE && r->out.code != 0 && is_stranger(r, c))
		FUZZ_ASSERT(r->out.len + 28 <= 3 * (len + 28) &&
		    r->out.len <= 400); /* IPv4 and UDP headers count */
	learn(r, c);
}

/* Attributes as the bytes say; the common ones whole. */
static void
put_attrs(struct run *r, struct stun_out *o)
{
	uint8_t n = rd_u8(&r->in) & 7, value[64];
	struct addr a;

	while (n-- > 0) {
		uint8_t kind = rd_u8(&r->in);

		switch (kind & 15) {
		case 0:
			stun_put_u32(o, STUN_A_REQUESTED_TRANSPORT, 17u << 24);
			break;
		case 1:
			stun_put_u32(o, STUN_A_LIFETIME, rd_u8(&r->in) * 16u);
			break;
		case 2:
			stun_put_u32(o, STUN_A_CHANNEL_NUMBER, (0x4000u + (rd_u8(&r->in) & 7u)) << 16);
			break;
		case 3:
		case 4:
		case 5:
			a = peer_addr(r);
			stun_put_xaddr(o, STUN_A_XOR_PEER_ADDRESS, &a);
			break;
		case 6:
			stun_put_u32(o, STUN_A_REQUESTED_ADDRESS_FAMILY, (uint32_t)rd_u8(&r->in) % 4 << 24);
			break;
		case 7:
			stun_put_u32(o, STUN_A_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
			break;
		case 8:
			stun_put_bytes(o, STUN_A_EVEN_PORT, kind & 16 ? "\x80" : "\0", 1);
			break;
		case 9:
			stun_put_bytes(o, STUN_A_RESERVATION_TOKEN, r->token, 8);
			break;
		case 10:
			stun_put_bytes(o, STUN_A_DATA, "datagram", kind >> 5);
			break;
		case 11:
			stun_put_bytes(o, STUN_A_DONT_FRAGMENT, "", 0);
			break;
		default: {
			uint16_t type = rd_u16(&r->in);
			const uint8_t *p = rd_bytes(&r->in, kind >> 4);

			memset(value, 0, sizeof value);
			if (p != NULL)
				memcpy(value, p, kind >> 4);
			stun_put_bytes(o, type, value, kind >> 4);
		}
		}
	}
}

static void
message(struct run *r, unsigned c, uint8_t op)
{
	static const uint16_t methods[] = { STUN_BINDING, STUN_ALLOCATE, STUN_REFRESH,
		STUN_CREATE_PERMISSION, STUN_CHANNEL_BIND, STUN_SEND, STUN_ALLOCATE, STUN_CHANNEL_BIND };
	uint16_t method = methods[op & 7];
	uint8_t buf[2048], txid[STUN_TXID] = { 0 };
	struct stun_out o;
	size_t len;

	put_u32(txid, op & 8 ? r->serial : ++r->serial);
	stun_begin(&o, buf, sizeof buf, method == STUN_SEND ? STUN_INDICATION : STUN_REQUEST, method, txid);
	put_attrs(r, &o);
	if (method != STUN_SEND && (op & 16) == 0 && r->has_nonce[c]) {
		stun_put_bytes(&o, STUN_A_USERNAME, op & 32 ? "bob" : "ann", 3);
		stun_put_bytes(&o, STUN_A_REALM, "example.org", 11);
		stun_put_bytes(&o, STUN_A_NONCE, r->nonce[c], NONCE_LEN);
		stun_key(STUN_ALG_MD5, op & 32 ? "bob" : "ann", 3, "example.org", 11, "x", 1, r->key);
		stun_put_mi(&o, r->key, 16);
	}
	len = stun_end(&o);
	if (len > 0)
		input(r, c, buf, len);
}

/* All clients have a nonce from the start. */
static void
greet(struct run *r, unsigned c)
{
	static const uint8_t hello[] = { 0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0x19, 0, 4, 17, 0, 0, 0 };

	input(r, c, hello, sizeof hello);
	FUZZ_ASSERT(r->has_nonce[c]);
}

static void
channel(struct run *r, unsigned c)
{
	uint8_t buf[64] = { 0 }, n = rd_u8(&r->in);

	channel_header(buf, (uint16_t)(0x4000 + (n & 7)), n >> 5);
	input(r, c, buf, CHANNEL_HEADER + (n >> 5) + (n >> 3 & 3));
}

static void
from_peer(struct run *r, unsigned c)
{
	struct session_ref ref = { rd_u8(&r->in) & 7, rd_u8(&r->in) & 7 };
	struct addr from = peer_addr(r);
	uint8_t n = rd_u8(&r->in);

	if (world_peer(r->w, client_shard(c), ref, n & 1, &from, "a peer's datagram", n & 15, &r->out) ==
	    TURN_TO_CLIENT)
		FUZZ_ASSERT(r->out.len <= (n & 15) + STUN_DATA_HEADROOM + 3u);
}

static void
other(struct run *r, unsigned c, uint8_t op)
{
	const uint8_t *p;
	struct addr peer;
	uint8_t n;

	switch (op & 7) {
	case 0:
		world_time(r->w, r->w->now + (tp_ms)rd_u8(&r->in) * 7777);
		break;
	case 1:
		world_sweep(r->w, &r->out);
		break;
	case 2:
		n = rd_u8(&r->in);
		p = rd_bytes(&r->in, n);
		if (p != NULL)
			input(r, c, p, n);
		break;
	case 3:
		turn_close(&r->w->t[client_shard(c)], &r->w->shard[client_shard(c)],
		    (struct session_ref){ rd_u8(&r->in) & 7, rd_u8(&r->in) & 7 }, REASON_END_OPERATOR,
		    &r->out);
		world_effects(r->w, client_shard(c), &r->out);
		break;
	case 4:
		peer = peer_addr(r);
		n = rd_u8(&r->in);
		turn_peer_icmp(&r->w->t[client_shard(c)], &r->w->shard[client_shard(c)],
		    (struct session_ref){ n & 7, n >> 5 }, &peer, 3, n, n, &r->out);
		break;
	case 5:
		r->w->policy.peers.deny.count ^= 1;
		world_reload(r->w);
		break;
	case 6:
		n = rd_u8(&r->in);
		r->w->supply = n & 3;
		r->w->policy.quota = (struct cross_limits){ n >> 2 & 3, n >> 4 & 3, n >> 6 };
		break;
	default:
		world_fill_pool(r->w, client_shard(c), rd_u8(&r->in) & 3);
		r->w->policy.replace_idle = 30;
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct run r;

	memset(&r, 0, sizeof r);
	r.w = world_new();
	r.in = rd_over(data, size);
	strcpy(r.w->user[0].name, "ann");
	strcpy(r.w->user[1].name, "bob");
	strcpy(r.w->user[0].pass, "x");
	strcpy(r.w->user[1].pass, "x");
	r.w->users = 2;
	r.w->policy.challenges = 0;
	r.w->policy.permissions_max = r.w->policy.channels_max = 5;
	addr_parse(&r.w->policy.relay[0].addr, "203.0.113.1");
	addr_parse(&r.w->policy.relay[1].addr, "2001:db8::1");
	r.w->policy.relay[0].port_min = r.w->policy.relay[1].port_min = 49152;
	r.w->policy.relay[0].port_max = r.w->policy.relay[1].port_max = 65535;
	r.w->policy.relay_count = 2;
	cidr_parse(&r.w->policy.peers.deny.rule[0], "8.8.8.0/29");
	for (unsigned c = 0; c < CLIENTS; c++)
		greet(&r, c);
	for (unsigned steps = 0; rd_left(&r.in) > 0 && steps < 2000; steps++) {
		uint8_t op = rd_u8(&r.in);
		unsigned c = op >> 6;

		switch (rd_u8(&r.in) & 7) {
		case 0:
			other(&r, c, op);
			break;
		case 1:
			channel(&r, c);
			break;
		case 2:
			from_peer(&r, c);
			break;
		default:
			message(&r, c, op & 63);
			break;
		}
		FUZZ_ASSERT(r.w->fault == NULL);
	}
	FUZZ_ASSERT(world_audit(r.w) == NULL);
	world_free(r.w);
	return 0;
}
