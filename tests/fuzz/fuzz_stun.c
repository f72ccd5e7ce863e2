/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_stun.c: the codec on arbitrary bytes: as a datagram, as ChannelData, as the start of a stream. */
#include "config.h"

#include <stdlib.h>

#include "fuzz.h"
#include "tp/stun.h"

/* What a getter hands out must be inside the message: touched, so that a sanitizer sees it. */
static unsigned touched;

static void
touch(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		touched += p[i];
}

static void
read_attr(const struct stun_msg *m, const struct stun_attr *a)
{
	struct addr addr;
	uint8_t family;
	uint16_t n;
	uint32_t v;
	bool b;

	FUZZ_ASSERT(a->value >= m->raw + STUN_HEADER + 4);
	FUZZ_ASSERT(a->value + a->len <= m->raw + m->len);
	touch(a->value, a->len);
	if (stun_get_xaddr(m, a, &addr)) {
		char text[ADDR_STRLEN];

		FUZZ_ASSERT(addr.family == ADDR_V4 || addr.family == ADDR_V6);
		addr_print(&addr, text);
	}
	stun_get_u32(a, &v);
	stun_get_channel(a, &n);
	stun_get_even_port(a, &b);
	stun_get_family(a, &family);
	stun_get_alg(a, &n);
	FUZZ_ASSERT(stun_find(m, a->type) <= a);
	stun_find_next(m, a);
}

static void
as_message(const uint8_t *p, size_t n)
{
	static const uint8_t key[16] = "sixteen bytes...";
	struct stun_msg m;

	if (stun_parse(&m, p, n) != STUN_OK)
		return;
	FUZZ_ASSERT(m.len == n && m.count <= STUN_ATTRS_MAX && m.unknown_count <= STUN_UNKNOWN_MAX);
	for (unsigned i = 0; i < m.count; i++)
		read_attr(&m, &m.attr[i]);
	/* An HMAC cannot be guessed. */
	FUZZ_ASSERT(!stun_check_mi(&m, key, sizeof key) && !stun_check_mi256(&m, key, sizeof key));
	stun_method_name(m.method);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct channel_data c;
	int len = frame_stream_len(data, size);

	FUZZ_ASSERT(len <= FRAME_STREAM_MAX);
	FUZZ_ASSERT(len <= 0 || size >= 4);
	if (channel_parse(&c, data, size) == STUN_OK) {
		FUZZ_ASSERT(c.data + c.len <= data + size);
		touch(c.data, c.len);
	}
	as_message(data, size);
	return 0;
}
