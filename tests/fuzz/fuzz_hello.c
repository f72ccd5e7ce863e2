/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_hello.c: ClientHellos of strangers, in fragments: never read outside, never believed without a
 * cookie of ours; with one they pass, however they are cut and put together.
 */
#include "config.h"

#include <sodium.h>
#include <string.h>

#include "fuzz.h"
#include "tp/seal.h"

#define DATAGRAM_MAX 4096

static const struct addr client = { .family = ADDR_V4, .port = 1, .ip = { 192, 0, 2, 1 } };

/* Cuts a body into fragments, the last first, each as a datagram; they are gathered again and must be
 * the same. */
static void
cut(const uint8_t *body, uint32_t total, uint32_t step)
{
	static uint8_t got[SEAL_HELLO_MAX], seen[SEAL_SEEN_LEN(SEAL_HELLO_MAX)],
	    d[SEAL_FRAG_HEAD + SEAL_HELLO_MAX];
	struct seal_gather g;

	seal_gather_init(&g, got, seen, sizeof got);
	for (uint32_t at = (total - 1) / step * step;; at -= step) {
		struct seal_frag f = { .record_seq = 1 + at,
			.message_seq = 1,
			.total = total,
			.at = at,
			.len = total - at < step + 3 ? total - at : step + 3,
			.bytes = body + at },
				 again;
		struct seal_frags it = seal_frags_over(d, seal_frag_write(d, &f));

		FUZZ_ASSERT(seal_frags_next(&it, &again) == 1 && seal_gather_add(&g, &again));
		FUZZ_ASSERT(seal_frags_next(&it, &again) == 0);
		if (at == 0)
			break;
	}
	FUZZ_ASSERT(seal_gather_whole(&g) && memcmp(got, body, total) == 0);
}

/* The hello that the answer asks for: with the cookie it passes, with a changed one it does not. */
static void
with_cookie(const struct seal_cookie_keys *keys, const struct seal_frag *first, const uint8_t *cookie)
{
	uint8_t body[DATAGRAM_MAX], d[DATAGRAM_MAX + SEAL_FRAG_HEAD], reply[SEAL_VERIFY_LEN];
	uint32_t at = first->len > 34 ? 35u + first->bytes[34] : UINT32_MAX;

	if (at >= first->len || first->len != first->total || first->len + SEAL_COOKIE_LEN > sizeof body)
		return;
	memcpy(body, first->bytes, at);
	body[at] = SEAL_COOKIE_LEN;
	memcpy(body + at + 1, cookie, SEAL_COOKIE_LEN);
	memcpy(body + at + 1 + SEAL_COOKIE_LEN, first->bytes + at + 1, first->len - at - 1);
	struct seal_frag f = { .record_seq = 1,
		.message_seq = 1,
		.total = first->len + SEAL_COOKIE_LEN,
		.len = first->len + SEAL_COOKIE_LEN,
		.bytes = body };
	size_t n = seal_frag_write(d, &f);
	FUZZ_ASSERT(seal_hello_judge(keys, &client, d, n, reply) == SEAL_V_PASS);
	d[SEAL_FRAG_HEAD + at + 2] ^= 1;
	FUZZ_ASSERT(seal_hello_judge(keys, &client, d, n, reply) == SEAL_V_DROP);
	d[SEAL_FRAG_HEAD + at + 2] ^= 1;
	f.len = at + SEAL_COOKIE_LEN;
	FUZZ_ASSERT(seal_hello_judge(keys, &client, d, seal_frag_write(d, &f), reply) == SEAL_V_PART);
	cut(body, f.total, 1 + f.total / 7);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seal_cookie_keys keys = { .key = { "one key", "another" }, .number = { 7, 6 } };
	struct seal_frags it = seal_frags_over(data, size);
	struct seal_frag f, first = { .len = 0 };
	uint8_t reply[SEAL_VERIFY_LEN];
	struct seal_hello h;
	int more;

	while ((more = seal_frags_next(&it, &f)) > 0) {
		FUZZ_ASSERT(f.bytes >= data && f.bytes + f.len <= data + size && f.at + f.len <= f.total);
		FUZZ_ASSERT(f.total <= SEAL_HELLO_MAX);
		if (f.message_seq == 0 && f.at == 0 && f.len > 0 && first.len == 0)
			first = f;
		if (f.len == f.total && f.len > 0 && seal_hello_parse(&h, f.bytes, f.len) == SEAL_OK)
			FUZZ_ASSERT(h.cookie + h.cookie_len <= f.bytes + f.len);
	}
	enum seal_verdict v = seal_hello_judge(&keys, &client, data, size, reply);
	FUZZ_ASSERT(more == 0 || v == SEAL_V_DROP);
	FUZZ_ASSERT(v != SEAL_V_PASS); /* a cookie is not guessed */
	if (v != SEAL_V_VERIFY)
		return 0;
	FUZZ_ASSERT(first.len > 0 && SEAL_VERIFY_LEN < 2 * size && get_u64(reply + 3) == first.record_seq);
	with_cookie(&keys, &first, reply + SEAL_VERIFY_LEN - SEAL_COOKIE_LEN);
	return 0;
}
