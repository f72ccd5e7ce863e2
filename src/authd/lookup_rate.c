/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lookup_rate.c: how many questions to databases one client prefix may cause.
 *
 * Two prefixes that share a place share its allowance: the place is a keyed hash, so a client cannot
 * choose it.
 */
#include "config.h"

#include <sodium.h>

#include "lookup_int.h"

#define TELL_MS 60000

bool
lookup_rate_take(struct lookup_rate *r, const struct addr *client, uint64_t rate, tp_ms now, bool *tell)
{
	uint8_t prefix[9] = { client->family };
	uint64_t at, cap = rate * 10000; /* thousandths of a question; a burst of ten seconds */
	struct lookup_bucket *b;

	memcpy(prefix + 1, client->ip, client->family == ADDR_V4 ? 4 : 8);
	crypto_shorthash((uint8_t *)&at, prefix, sizeof prefix, r->key);
	b = &r->bucket[at % LOOKUP_BUCKETS];
	if (b->when == 0) {
		b->left = cap;
	} else {
		uint64_t more = (now - b->when) * rate; /* ms times questions a second: thousandths */

		b->left = b->left + more > cap ? cap : b->left + more;
	}
	b->when = now;
	*tell = false;
	if (b->left < 1000) {
		*tell = b->told == 0 || now - b->told >= TELL_MS;
		if (*tell)
			b->told = now;
		return false;
	}
	b->left -= 1000;
	return true;
}
