/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turn.h: the TURN core, RFC 8656.  One file per method, the data path, the one place that builds error
 * answers.
 *
 * Sans-IO: bytes, time and randomness come in, effects go out as values.  State lives in shared memory
 * (tp/state.h) and is changed here.  Errors: 0 or a STUN error code.
 *
 *	worker:  datagram -> turn_client_input() -> act: send this, there | wait for key or socket | nothing
 *	         datagram -> turn_peer_input()   -> act: send this to the client | nothing
 */
#ifndef TP_TURN_H
#define TP_TURN_H

#include "tp/auth.h"

#define TURN_RULES_MAX 1024

/* ---- policy.c: which peers may be reached ----------------------------------------------------------- */

struct turn_relay_row {
	struct addr addr, external;
	uint16_t port_min, port_max;
	bool retired; /* not configured any more: it counts as long as a socket of it is open */
};                    /* addr.port 0; external may be ADDR_NONE */
struct turn_ports {
	struct addr addr;
	uint16_t min, max;
};
struct turn_rules {
	uint32_t count;
	struct cidr rule[TURN_RULES_MAX];
};
struct turn_ranges {
	uint32_t count;
	const struct addr_range *range;
}; /* borrowed */
struct peer_policy {
	struct turn_rules deny, allow, allow_private;
	uint32_t own_count;
	struct turn_ports own[64]; /* allow_own */
	uint32_t host_count;
	struct addr host[256]; /* addresses of this host, externals included, port 0 */
	uint32_t listener_count;
	struct addr listener[LISTENERS_MAX + 1]; /* listeners and metrics: never a peer */
	/* Of databases: denied_peer_ip, its exceptions allowed_peer_ip, and the databases' own
	 * addresses with their ports. */
	struct turn_ranges follow_deny, follow_allow;
	uint32_t database_count;
	const struct addr *database;
};
enum peer_verdict {
	PEER_OK,
	PEER_NEVER /* unspecified, multicast, broadcast, class E, own listener: no rule opens it */,
	PEER_RULE /* peers.deny */,
	PEER_NOT_ALLOWED /* not in peers.allow */,
	PEER_OWN /* this host: allow_own or allow_private opens it */,
	PEER_PRIVATE /* allow_private opens it */,
	PEER_TRANSITION /* an IPv6 form that embeds an IPv4 address, or outside 2000::/3 */,
	PEER_DATABASE /* denied_peer_ip of a database, or a database itself */,
};

#define TURN_ALTERNATES_MAX 16
struct turn_alternate {
	struct addr addr;
	uint8_t transports; /* of the clients that it is for: a set of enum transport */
	char domain[128];   /* ALTERNATE-DOMAIN for clients over TLS and DTLS; "": none */
};

struct turn_policy {
	struct auth_policy auth;
	struct peer_policy peers;
	uint64_t generation;          /* of the configuration */
	const struct port_map *ports; /* by row: the ports that are relay sockets right now */
	uint32_t relay_count;
	struct turn_relay_row relay[RELAYS_MAX];
	uint8_t default_family; /* ADDR_V4, ADDR_V6, 0: the client's */
	bool strict_family;
	/* users come from databases too: no question before a nonce has proved the client */
	bool outside_users;
	uint32_t default_lifetime, max_lifetime, replace_idle; /* seconds */
	struct cross_limits quota;
	struct bandwidth bandwidth;
	uint32_t permissions_max, channels_max;
	uint32_t challenges, bindings; /* per second and prefix; 0: no limit */
	bool retired[LISTENERS_MAX];   /* listeners that are not configured any more: no new sessions */
	bool draining;                 /* new allocations: 300 with one of the alternates, else 508 */
	bool memory_short;             /* the same: the memory of the control group is nearly used up */
	struct addr alternate; /* while draining or memory_short, before the list; ADDR_NONE: none */
	uint32_t alternate_count;
	struct turn_alternate alternates[TURN_ALTERNATES_MAX]; /* while draining or full */
	uint16_t channel_max;                                  /* largest channel number that is bound */
	char software[128]; /* value of SOFTWARE in answers, terminated; empty: none */
};

/*
 * The one decision, on every path and in both directions.  `peer` as the client names it.  The order:
 * never; peers.deny (it wins over every allow); relay sockets of this server (two clients of it meet);
 * own host; allow list; built-in internal ranges unless allow_private.  Port 0 means "any port"
 * (permissions are by address): then own addresses are allowed when some port of theirs may be.  `rule`
 * (may be NULL): the CIDR that decided.
 */
enum peer_verdict peer_judge(const struct turn_policy *p, const struct addr *peer, struct cidr *rule);
const char *peer_verdict_text(enum peer_verdict v);
/* Is the port judged with each packet?  For addresses of this host and of databases, in any form. */
bool peer_port_matters(const struct turn_policy *p, const struct addr *peer);
/* Is it a relay socket of this server, right now? */
bool peer_is_relay(const struct turn_policy *p, const struct addr *peer);
/* Behind a 1:1 NAT: external address of one of our relay sockets -> the internal one, before sending; and
 * back for received sources, before permission and channel lookup.  Each row has its own mapping, also
 * when it is not configured any more, so a session keeps the one that it was told.  Others unchanged. */
void peer_to_inside(const struct turn_policy *p, struct addr *peer);
void peer_to_outside(const struct turn_policy *p, struct addr *peer);
/* A client source that gets no answer at all: port 0, reflector ports (7 13 17 19 53 123 389 1900 11211),
 * unspecified, multicast, our own listeners. */
bool source_is_bad(const struct turn_policy *p, const struct addr *client);
/* RFC 8656 21.4: Teredo and 6to4 client addresses are refused (403). */
bool source_is_tunnel(const struct addr *client);

/* ---- core.c ------------------------------------------------------------------------------------------ */

/* Relay sockets ready for use, of one shard, by relay row; filled by the worker, popped by Allocate. */
#define TURN_POOL_DEPTH 64
struct turn_pool {
	struct {
		uint16_t count;
		struct relay_ref sock[TURN_POOL_DEPTH];
	} row[RELAYS_MAX];
};
/* The answer to NEED_RELAY. */
struct turn_offer {
	uint8_t count; /* sockets given; 0: the range is used up, answer 508 */
	struct relay_ref sock[2];
	uint32_t reservation; /* the supervisor's id of the reserved sibling; 0: none */
};

struct turn {
	const struct turn_policy *policy;
	struct nonce_keys nonces;
	struct key_cache *cache;
	struct cross *cross;
	struct stats *stat;
	uint8_t token_key[32]; /* reservation tokens are a keyed hash of shard, slot, generation */
	struct round_trip {
		uint8_t txid[12];
		bool up;
		tp_ms sent;
	} trips[64];           /* connectivity checks on their way */
	uint32_t token_cursor; /* of turn_sweep() over reservations */
	uint64_t rnd[2]; /* seeded by the worker; picks relay addresses, transaction ids of indications */
	tp_ms now;       /* set once per batch */
	int64_t unix_now;
};

struct turn_in {
	struct shard *shard;
	struct turn_pool *pool;
	struct addr client;
	uint16_t listener; /* row of conf.listeners */
	uint8_t transport; /* enum transport */
	uint32_t conn;     /* stream or DTLS record state that it came by; 0: plain UDP */
	uint8_t *buf;      /* the whole datagram or stream frame */
	size_t len;
	const struct auth_grant *grant; /* second time after TURN_NEED_KEY */
	const struct turn_offer *offer; /* second time after TURN_NEED_RELAY */
	bool tagged;                    /* tag is what session_prefetch() of this client gave */
	uint32_t tag;
};

enum turn_act {
	TURN_DROP, /* out->drop says why; counted already */
	TURN_DONE, /* nothing to send */
	/* out->p, out->len to out->to (the session's or request's client) by its listener */
	TURN_TO_CLIENT,
	TURN_TO_PEER,    /* out->p, out->len to out->to through the relay socket out->fd */
	TURN_NEED_KEY,   /* keep the datagram, ask turnpike-auth with it, come again with grant */
	TURN_NEED_RELAY, /* keep it, ask the supervisor as out->want says, come again with offer */
};
enum turn_event {
	EV_NONE,
	EV_ALLOCATED,
	EV_REFRESHED,
	EV_ENDED /* client's Refresh 0 */,
	EV_EXPIRED,
	EV_CLOSED /* operator, policy, credential */,
	EV_REPLACED /* a new one on the 5-tuple of an old: `ended` and `open`, ref is the new */,
	EV_PEER_DENIED,
	EV_REFUSED /* error answer to an authenticated request: out->code */,
	EV_UNAUTHENTICATED /* wrong credentials (not the first challenge) */,
};
struct turn_want {
	bool v4, v6;          /* families of the sockets wanted */
	bool even, reserve;   /* EVEN-PORT */
	uint32_t reservation; /* redeem this one */
};
#define TURN_REPLY_MAX 800
struct turn_out {
	enum drop drop;
	uint8_t *p; /* into in->buf, the payload's headroom, or reply[] */
	size_t len;
	struct addr to;
	int32_t fd;        /* relay socket (TURN_TO_PEER) */
	uint16_t listener; /* TURN_TO_CLIENT */
	uint8_t transport;
	uint32_t conn;      /* the session's conn, TURN_TO_CLIENT on streams */
	bool dont_fragment; /* TURN_TO_PEER: set DF on this one */
	/* Effects, to be carried out before p is sent: */
	struct session_ref open; /* with open_do: add its relay sockets to the epoll, detach filters */
	bool open_do;
	int32_t close[4]; /* relay sockets to take out, close and release; close_count */
	uint8_t close_count;
	/* the supervisor's id of a reserved socket that is not needed any more; 0: none */
	uint32_t unreserve;
	struct turn_want want;
	enum turn_event event; /* for the log; ref is the session it is about (also of DROP_BANDWIDTH) */
	struct session_ref ref;
	unsigned code;             /* error code sent, 0: none */
	enum reason reason;        /* why: of an error code, of a drop over a limit, and of an end */
	struct addr whom;          /* with a drop over a limit: the client */
	int64_t credential_expiry; /* REASON_EXPIRED: Unix seconds */
	struct addr peer;          /* EV_PEER_DENIED: with verdict and rule */
	enum peer_verdict verdict;
	struct cidr rule;
	uint8_t user_len;
	char user[SESSION_NAME];
	/* Not cleared before each datagram: */
	struct session ended; /* EV_ENDED ... EV_REPLACED: a copy as it was */
	uint8_t reply[TURN_REPLY_MAX];
};
/* Everything before `ended` is cleared. */
void turn_out_reset(struct turn_out *out);

/*
 * A datagram (or stream frame) of a client.  ChannelData and Send are forwarded without a copy: out->p
 * points into in->buf.  Never answers anything that is not a well-formed request.
 */
enum turn_act turn_client_input(struct turn *t, const struct turn_in *in, struct turn_out *out);

/* ---- relay.c: the data path ------------------------------------------------------------------ */

/*
 * A datagram of a peer on relay socket `which` of a session; `payload` has STUN_DATA_HEADROOM bytes
 * before it and 3 after it.  `ref.gen` must match.  For a channel on a stream the length is padded to 4.
 */
enum turn_act turn_peer_input(struct turn *t, struct shard *s, struct session_ref ref, unsigned which,
    const struct addr *from, uint8_t *payload, size_t len, struct turn_out *out);
/* An ICMP error for a datagram that went to `peer`: becomes a Data indication with the ICMP attribute
 * (RFC 8656 11.5) when there is a permission.  `family` ADDR_V4: type and code of ICMP; ADDR_V6: of
 * ICMPv6. `data`: MTU for "too big". */
enum turn_act turn_peer_icmp(struct turn *t, struct shard *s, struct session_ref ref,
    const struct addr *peer, uint8_t type, uint8_t code, uint32_t data, struct turn_out *out);

/* ---- session_end.c --------------------------------------------------------------------------- */

/* Ends a session (EV_CLOSED) for a reason REASON_END_...; out->close has its sockets. */
enum turn_act turn_close(
    struct turn *t, struct shard *s, struct session_ref ref, enum reason why, struct turn_out *out);
/* Looks at the next n slots; calls back with a filled `out` for each session that ended (expired; or its
 * credential with strict_expiry); also at some reservations.  Returns the new cursor. */
typedef void turn_swept_h(void *arg, struct turn_out *out);
uint32_t turn_sweep(struct turn *t, struct shard *s, uint32_t cursor, uint32_t n, struct turn_out *scratch,
    turn_swept_h *cb, void *arg);

#endif
