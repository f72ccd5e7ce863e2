/* SPDX-License-Identifier: BSD-3-Clause */
/* ClientHellos of strangers: never read outside, never believed without a cookie of ours, and what passes can be shown
 * to OpenSSL as a first hello that leads to this one. */
#include "config.h"

#include <sodium.h>
#include <string.h>

#include "fuzz.h"
#include "tp/seal.h"

static const struct addr client = { .family = ADDR_V4, .port = 1, .ip = { 192, 0, 2, 1 } };

/* The cookie that this hello would need, put into it: what follows must pass. */
static void
with_cookie(const struct seal_cookie_keys *keys, const uint8_t *p, size_t n, const struct seal_hello *h)
{
	uint8_t d[SEAL_HELLO_MAX + SEAL_COOKIE_LEN], first[SEAL_HELLO_MAX], reply[SEAL_VERIFY_LEN];
	size_t at = (size_t)(h->body - p) + h->cookie_at + 1, len = n + SEAL_COOKIE_LEN;
	struct seal_hello again;

	if (len > SEAL_HELLO_MAX || h->cookie_len != 0)
		return;
	memcpy(d, p, at);
	seal_cookie_make(d + at, keys, &client, h);
	memcpy(d + at + SEAL_COOKIE_LEN, p + at, n - at);
	d[at - 1] = SEAL_COOKIE_LEN;
	put_u64(d + 3, 1);
	put_u16(d + 11, (uint16_t)(get_u16(d + 11) + SEAL_COOKIE_LEN));
	put_u16(d + 15, (uint16_t)(len - 25));
	put_u16(d + 17, 1);
	put_u16(d + 23, (uint16_t)(len - 25));
	FUZZ_ASSERT(seal_hello_judge(keys, &client, d, len, reply) == SEAL_V_PASS);
	FUZZ_ASSERT(seal_hello_parse(&again, d, len) == SEAL_OK);
	size_t m = seal_hello_first(first, &again);
	FUZZ_ASSERT(m == n && memcmp(first + 25, p + 25, n - 25) == 0);
	FUZZ_ASSERT(seal_hello_judge(keys, &client, first, m, reply) == SEAL_V_VERIFY);
	d[at] ^= 1;
	FUZZ_ASSERT(seal_hello_judge(keys, &client, d, len, reply) == SEAL_V_DROP);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seal_cookie_keys keys = { .key = { "one key", "another" }, .number = { 7, 6 } };
	uint8_t reply[SEAL_VERIFY_LEN];
	struct seal_hello h;
	int fault = seal_hello_parse(&h, data, size);
	enum seal_verdict v = seal_hello_judge(&keys, &client, data, size, reply);

	if (fault != SEAL_OK) {
		FUZZ_ASSERT(v == SEAL_V_DROP);
		return 0;
	}
	FUZZ_ASSERT(h.body >= data && h.body + h.body_len == data + size && size <= SEAL_HELLO_MAX);
	FUZZ_ASSERT(h.cookie_at + 1 + h.cookie_len <= h.body_len && h.cookie == h.body + h.cookie_at + 1);
	FUZZ_ASSERT(v != SEAL_V_PASS);		/* nobody guesses a cookie */
	if (v == SEAL_V_VERIFY)
		FUZZ_ASSERT(h.cookie_len == 0 && SEAL_VERIFY_LEN < size && memcmp(reply + 3, data + 3, 8) == 0);
	with_cookie(&keys, data, size, &h);
	return 0;
}
