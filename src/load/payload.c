/* SPDX-License-Identifier: BSD-3-Clause */
/* payload.c: stamps every datagram so that nothing can happen to it unnoticed. */
#include "config.h"

#include "load_int.h"

#define MAGIC 0x544cu
#define K     0x9e3779b97f4a7c15u

/* A bijection of h for every w and of w for every h: one changed word always changes the result. */
static inline uint64_t
mix(uint64_t h, uint64_t w)
{
	h = (h ^ w) * K;
	return h ^ (h >> 29);
}

static inline uint64_t
word(const uint8_t *p, size_t n)
{
	uint64_t w = 0;

	memcpy(&w, p, n);
	return w;
}

/* Four lanes, because one chain of multiplications would cost more than the copy. */
static uint64_t
digest(const uint8_t *p, size_t n)
{
	uint64_t h[4] = { 1, 2, 3, 4 };

	for (; n >= 32; p += 32, n -= 32)
		for (unsigned i = 0; i < 4; i++)
			h[i] = mix(h[i], word(p + 8 * i, 8));
	for (; n >= 8; p += 8, n -= 8)
		h[0] = mix(h[0], word(p, 8));
	h[1] = mix(h[1], word(p, n));
	return mix(mix(mix(h[0], h[1]), h[2]), h[3]);
}

static uint32_t
checksum(const uint8_t *p, size_t n, uint64_t filler)
{
	uint64_t h = mix(n, word(p, 8));

	h = mix(h, word(p + 8, 4));
	h = mix(h, word(p + 16, 8));
	h = mix(h, word(p + 24, 8));
	h = mix(h, filler);
	h *= K;
	return (uint32_t)(h >> 32);
}

uint64_t
payload_fill(uint8_t *p, size_t n)
{
	for (size_t i = PAYLOAD_MIN; i < n; i++)
		p[i] = (uint8_t)(i * 151 + 7);
	return digest(p + PAYLOAD_MIN, n - PAYLOAD_MIN);
}

void
payload_write(uint8_t *p, size_t n, uint32_t session, const struct stamp *s, uint64_t filler)
{
	uint32_t sum;

	put_u16(p, MAGIC);
	p[2] = s->dir;
	p[3] = 0;
	memcpy(p + 4, &session, 4);
	memcpy(p + 8, &s->flow, 4);
	memcpy(p + 16, &s->seq, 8);
	memcpy(p + 24, &s->time, 8);
	sum = checksum(p, n, filler);
	memcpy(p + 12, &sum, 4);
}

enum payload_fault
payload_read(const uint8_t *p, size_t n, size_t expected, uint32_t session, struct stamp *s)
{
	uint32_t sum, theirs;

	if (n < PAYLOAD_MIN || get_u16(p) != MAGIC)
		return PAYLOAD_DAMAGED;
	memcpy(&sum, p + 12, 4);
	if (sum != checksum(p, n, digest(p + PAYLOAD_MIN, n - PAYLOAD_MIN)))
		return PAYLOAD_DAMAGED;
	memcpy(&theirs, p + 4, 4);
	if (theirs != session)
		return PAYLOAD_FOREIGN;
	if (n != expected || p[2] > DOWN)
		return PAYLOAD_DAMAGED;
	s->dir = p[2];
	memcpy(&s->flow, p + 8, 4);
	memcpy(&s->seq, p + 16, 8);
	memcpy(&s->time, p + 24, 8);
	return PAYLOAD_OK;
}
