/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.h: a TURN client of a scenario: what it knows, and the requests it makes from a line of words.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include "world.h"

#define WORDS_MAX 64

struct client {
	char name[16];
	struct addr addr;
	unsigned shard;
	uint8_t transport;
	char realm[128];
	uint8_t nonce[128], algs[32], token[8];
	size_t realm_len, nonce_len, algs_len;
	uint32_t serial; /* of transaction ids */
	uint8_t txid[STUN_TXID];
	uint8_t key[STUN_KEY_MAX];
	size_t key_len; /* of the last signed request; 0: it was not */
	bool mi256;
};

struct words {
	char *w[WORDS_MAX];
	unsigned n;
};
/* Value of "key=value" from word `from` on, the next one after `after` (NULL: first); NULL when absent. */
const char *word_value(const struct words *w, unsigned from, const char *key, const char *after);
bool word_has(const struct words *w, unsigned from, const char *word);
size_t hex_bytes(uint8_t *out, size_t cap, const char *hex);
/* The message of "METHOD [options]" from word `from` on.  0 when it makes no sense. */
size_t client_request(
    struct world *w, struct client *c, const struct words *l, unsigned from, uint8_t *buf, size_t cap);
/* What an answer teaches. */
void client_learn(struct client *c, const struct stun_msg *m);

#endif
