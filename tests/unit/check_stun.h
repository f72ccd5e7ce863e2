/* SPDX-License-Identifier: BSD-3-Clause */
/* check_stun.h: what the unit tests of stun share. */
#ifndef CHECK_STUN_H
#define CHECK_STUN_H

#include <check.h>

#include "tp/stun.h"

Suite *suite_vectors(void);
Suite *suite_msg(void);
Suite *suite_attr(void);
Suite *suite_build(void);
Suite *suite_frame(void);
Suite *suite_sign(void);

struct vector {
	const char *name;
	uint8_t bytes[200];
	size_t len;
};
/* RFC 5769 2.1-2.4, and RFC 8489 B.1 with its length put right (see check_stun_vectors.c). */
enum { V_REQUEST, V_IPV4, V_IPV6, V_LONG_TERM, V_SHA256, V_COUNT };
extern const struct vector vectors[V_COUNT];

/* A copy that ends where readable memory ends: reading one byte beyond is a crash.  Valid until the
 * next call. */
uint8_t *at_the_edge(const void *bytes, size_t len);

#endif
