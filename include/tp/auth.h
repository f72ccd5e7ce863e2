/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * auth.h: the order of checks for one request, the nonce, the key cache, REST names.
 *
 * Sans-IO.  Long-term credentials of RFC 8489 9.2 with nonce cookie (9.2.1), PASSWORD-ALGORITHMS and
 * USERHASH.  A worker holds no user database: a request whose key is not cached is sent, whole, to the
 * turnpike-auth, which checks its integrity and answers with the key (struct auth_grant).  A worker thus
 * only ever learns keys of users whose valid message it has seen.  Errors: 0 or a STUN error code;
 * AUTH_NEED_KEY.
 */
#ifndef TP_AUTH_H
#define TP_AUTH_H

#include "tp/base.h"
#include "tp/state.h"
#include "tp/stun.h"

/* ---- nonce.c -------------------------------------------------------------------------------- */

/*
 * 24 characters: "obMatJos2", 4 of base64 for the 24 security feature bits (RFC 8489 9.2.1), 11 of base64
 * for 16 bits of time (units of 8 s) and 50 bits of MAC over time, feature bits, client address and port,
 * transport and realm.  RFC 8489 9.2.4 forbids the same nonce for two ports.  Nothing is stored.
 */
#define NONCE_LEN            24
#define NONCE_BIT_ALGORITHMS 0x800000u /* bit 0 of RFC 8489 18.1: password algorithms */
#define NONCE_BIT_USERHASH   0x400000u /* bit 1: username anonymity */

/* Keys of the current and the previous epoch (an epoch is an hour of monotonic time). */
struct nonce_keys {
	uint64_t epoch;
	uint8_t key[2][32];
}; /* [0] of epoch, [1] of epoch - 1 */
#define NONCE_EPOCH_MS 3600000u

enum nonce_verdict {
	NONCE_GOOD,
	NONCE_STALE,
	NONCE_FOREIGN
}; /* FOREIGN: never ours, or for another address */
/* Whom a nonce is for. */
struct nonce_for {
	struct addr client;
	uint8_t transport; /* enum transport */
	const char *realm;
	size_t realm_len;
};
void nonce_make(
    char out[NONCE_LEN], const struct nonce_keys *k, uint32_t bits, const struct nonce_for *f, tp_ms now);
/* *bits are the feature bits that it claims to carry; they are ours unless the verdict is FOREIGN.  0
 * without the nonce cookie. */
enum nonce_verdict nonce_judge(const void *nonce, size_t len, const struct nonce_keys *k,
    const struct nonce_for *f, tp_ms now, tp_ms lifetime, uint32_t *bits);

/* ---- rest_name.c: names of the TURN REST convention -------------------------------------------------- */

/* "1736:alice", "alice:1736" (coturn's other form), "1736".  True when the name is of the form; then
 * *expiry is the Unix time and [*stable, *stable_len) the part beside the timestamp (length 0 for a bare
 * timestamp).  REST_ANY refuses a name that reads both ways ("99999999999:eve:1736"): its user part could
 * be the expiry.  A timestamp and a colon without a user is no such name.  Timestamps: 1 to 11 decimal
 * digits, no sign, no space; "1736:@alice:hs.org" -> "@alice:hs.org". */
enum rest_form { REST_ANY, REST_FIRST, REST_LAST }; /* as enum conf_rest: where the timestamp stands */
bool rest_name(const char *name, size_t len, enum rest_form form, int64_t *expiry, const char **stable,
    size_t *stable_len);

/* ---- cache.c: keys a worker has seen ------------------------------------------------------------ */

/* turnpike-auth's answer about one request. */
enum grant_verdict { GRANT_OK, GRANT_REFUSED };
/* Of one user, where they differ from the configured ones; 0: as configured.  Bandwidth in bytes per
 * second. */
struct auth_limits {
	uint64_t allocations, permissions, bandwidth;
};
struct auth_grant {
	uint8_t verdict;      /* enum grant_verdict */
	uint8_t alg, key_len; /* enum stun_alg */
	uint8_t reason;       /* GRANT_REFUSED: enum reason */
	uint8_t stable_len;   /* 0: a bare timestamp names no user: no per-user limit */
	uint8_t key[STUN_KEY_MAX];
	int64_t credential_expiry; /* Unix seconds; 0: none */
	uint64_t conf_generation;  /* of the users it was made from */
	struct auth_limits limits;
	char stable[128];             /* stable part of the name; not terminated */
	char name[STUN_USERNAME_MAX]; /* whole name (USERHASH resolved); name_len */
	uint16_t name_len;
};

#define KEY_CACHE_SETS 1024 /* x 4 ways, least recently used goes */
#define KEY_CACHE_WAYS 4
struct key_entry {
	uint64_t id;         /* keyed hash of identity attribute type, value and algorithm; 0: free */
	uint64_t user, name; /* as in struct session */
	int64_t credential_expiry;
	tp_ms until; /* the cache asks again after this */
	uint64_t conf_generation;
	struct auth_limits limits;
	uint32_t used;
	uint8_t alg, key_len, user_text_len, zero;
	uint8_t key[STUN_KEY_MAX];
	char user_text[SESSION_NAME];
};
/* The caller provides (zeroed, mlocked where possible) memory. */
struct key_cache {
	uint32_t clock;
	struct key_entry e[KEY_CACHE_SETS][KEY_CACHE_WAYS];
};
#define KEY_CACHE_MS 60000u
const struct key_entry *key_cache_find(
    struct key_cache *kc, uint64_t id, tp_ms now, uint64_t conf_generation);
const struct key_entry *key_cache_put(
    struct key_cache *kc, uint64_t id, const struct auth_grant *g, uint64_t user, uint64_t name, tp_ms now);
void key_cache_forget(struct key_cache *kc, uint64_t name); /* as in struct session */
void key_cache_clear(struct key_cache *kc);

/* ---- check.c ------------------------------------------------------------------------------------ */

/* A user that may not begin or go on: as session.user, and until when (Unix time; 0: no end). */
#define TURN_DENIED_MAX 256
struct auth_denied {
	int64_t until;
	uint64_t user;
};
struct auth_policy {
	char realm[128];
	size_t realm_len;
	bool sha256_only;
	bool offer_userhash; /* every name is known */
	bool strict_expiry;
	tp_ms nonce_lifetime;
	uint64_t conf_generation;
	uint32_t denied_count;
	struct auth_denied denied[TURN_DENIED_MAX];
};
/* The user that a request was found to come from; valid until the next call. */
struct auth_who {
	uint64_t user, name;
	uint8_t alg, key_len;
	bool mi256; /* the answer carries MESSAGE-INTEGRITY-SHA256, else MESSAGE-INTEGRITY */
	uint8_t key[STUN_KEY_MAX];
	int64_t credential_expiry;
	enum reason reason;        /* why it was refused */
	struct auth_limits limits; /* of this user; from the session's own key: permissions alone */
	uint8_t user_text_len;
	char user_text[SESSION_NAME];
};
#define AUTH_NEED_KEY (-1) /* ask turnpike-auth with the whole message, then come again with the grant */
struct auth_in {
	const struct auth_policy *policy;
	const struct nonce_keys *nonces;
	struct key_cache *cache;
	struct cross *cross; /* for keyed hashes */
	const struct addr *client;
	uint8_t transport;             /* enum transport */
	const struct session *session; /* on this 5-tuple, or NULL */
	const struct session_key *session_key;
	const struct auth_grant *grant; /* NULL at first */
	tp_ms now;
	int64_t unix_now;
};
/*
 * RFC 8489 9.2.4 in its order: no integrity attribute 401; USERNAME or USERHASH, REALM or NONCE missing
 * 400; password algorithms (bid-down) 400 or 401; realm 401; the key: the session's own when the name is
 * its name, else the cache, else AUTH_NEED_KEY; integrity 401; nonce 438.  An existing allocation of
 * another user is the caller's 441.  *foreign: the nonce was never ours for this address, port and
 * transport.  With AUTH_NEED_KEY the sender has not proved its address, so the caller bounds how often it
 * asks.
 */
int auth_check(const struct auth_in *in, const struct stun_msg *m, struct auth_who *who, bool *foreign);
/* What session.user is for the stable part of a name (not empty, at most STUN_USERNAME_MAX; realm at
 * most 128). */
uint64_t auth_user_hash(
    const struct cross *c, const void *realm, size_t realm_len, const void *stable, size_t len);
/* What session.name is for the whole name; bounds likewise. */
uint64_t auth_name_hash(
    const struct cross *c, const void *realm, size_t realm_len, const void *name, size_t len);
/* Adds REALM, NONCE (fresh) and, when `algorithms`, PASSWORD-ALGORITHMS to a 401 or 438. */
void auth_challenge(struct stun_out *o, const struct auth_policy *p, const struct nonce_keys *k,
    const struct addr *client, uint8_t transport, tp_ms now, bool algorithms);
/* Signs a response to an authenticated request. */
void auth_sign(struct stun_out *o, const struct auth_who *who);

#endif
