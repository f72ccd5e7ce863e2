/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * outside.h: by which address the Internet sees this host.  It waits for answers from the network, so
 * turnpike-conf alone calls it.  0 or -errno; then `why` says what failed, in words for the operator.
 */
#ifndef TP_OUTSIDE_H
#define TP_OUTSIDE_H

#include "tp/base.h"

/* The first address of `family` (ADDR_V4, ADDR_V6) that the name has; port 0.  At most about 4 s for
 * each name server. */
int outside_name(const char *name, uint8_t family, struct addr *out, char *why, size_t why_len);
/*
 * How the STUN server `server` (NAME, NAME:PORT, ADDRESS, [ADDRESS]:PORT; port 3478) sees a datagram from
 * `inside`: a Binding request (RFC 8489) sent up to four times within 4 s.  *out has port 0.
 */
int outside_stun(
    const char *server, const struct addr *inside, struct addr *out, char *why, size_t why_len);

#endif
