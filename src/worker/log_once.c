/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log_once.c: a line once a minute for each user, source and reason, so that one noisy client does not
 * hide the others.
 *
 * A table of a fixed size.  Where a set of it is full, the entry that ends first gives way: a flood of
 * made-up sources costs repeated lines of others at most, and those are limited by their class
 * (worklog.c).
 */
#include "config.h"

#include <sodium.h>
#include <stdlib.h>

#include "worker_int.h"

#define ONCE_SPAN     60000
#define ONCE_USER_MAX 64

struct log_once *
log_once_new(void)
{
	struct log_once *o = calloc(1, sizeof *o);

	if (o != NULL)
		randombytes_buf(o->seed, sizeof o->seed);
	return o;
}

static uint64_t
hash(const struct log_once *o, const void *bytes, size_t len)
{
	uint8_t sum[crypto_shorthash_BYTES];

	_Static_assert(sizeof o->seed == crypto_shorthash_KEYBYTES, "key of SipHash");
	crypto_shorthash(sum, bytes, len, (const uint8_t *)o->seed);
	return get_u64(sum) | 1; /* 0 is a free entry */
}

/* The entry of this key, begun again when its minute is over. */
static struct once_entry *
entry(struct log_once *o, uint64_t key, tp_ms now)
{
	struct once_entry *set = o->e[key >> 32 & (ONCE_SETS - 1)], *at = &set[0];

	for (unsigned i = 0; i < ONCE_WAYS; i++) {
		if (set[i].key == key) {
			at = &set[i];
			break;
		}
		if (set[i].until < at->until)
			at = &set[i];
	}
	if (at->key != key)
		*at = (struct once_entry){ .key = key };
	if (at->until <= now) {
		at->until = now + ONCE_SPAN;
		at->lines = 0;
	}
	return at;
}

bool
log_once(struct log_once *o, const struct addr *source, const char *user, size_t user_len, unsigned reason,
    tp_ms now, uint32_t *more)
{
	uint8_t bytes[1 + sizeof source->ip + 1 + ONCE_USER_MAX] = { source->family };
	size_t n = 1 + sizeof source->ip;
	struct once_entry *of_source, *e;

	/* An IPv6 client has a /64. */
	memcpy(bytes + 1, source->ip, source->family == ADDR_V6 ? 8 : sizeof source->ip);
	bytes[n++] = (uint8_t)(reason + 1);
	user_len = user_len < ONCE_USER_MAX ? user_len : ONCE_USER_MAX;
	memcpy(bytes + n, user, user_len);
	e = entry(o, hash(o, bytes, n + user_len), now);
	if (e->lines > 0) {
		e->more++;
		return false;
	}
	of_source = entry(o, hash(o, bytes, n - 1), now);
	/* Both may have met in one set. */
	e = entry(o, hash(o, bytes, n + user_len), now);
	if (of_source->lines >= ONCE_LINES) {
		e->more++;
		return false;
	}
	of_source->lines++;
	e->lines++;
	*more = e->more;
	e->more = 0;
	return true;
}
