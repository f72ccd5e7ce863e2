/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conf_rows.c: numbers of listener and relay rows across reloads.  Sessions name their listener and relay address by row,
 * so a row keeps its number as long as the daemon lives; one that is gone stays as retired.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "super_int.h"

/* TCP and TLS share one socket, UDP and DTLS another. */
static bool
same_listener(const struct conf_listener *a, const struct conf_listener *b, unsigned of)
{
	return addr_eq(&a->addr, &b->addr) && (a->transports & of) != 0 && (b->transports & of) != 0;
}

static bool
same_relay(const struct conf_relay *a, const struct conf_relay *b)
{
	return addr_eq(&a->addr, &b->addr) && a->port_min == b->port_min && a->port_max == b->port_max;
}

/* Gives row k of `out` to a listener that has no row yet. */
static void
assign(struct conf_listener *out, uint32_t k, struct conf_listener *l)
{
	out[k] = *l;
	out[k].retired = 0;
	l->retired = 1; /* of the new ones: it has its row */
}

static void
keep_those_of(struct conf_listener *out, uint32_t n, struct conf *is, unsigned of)
{
	for (uint32_t i = 0; i < is->listener_count; i++)
		for (uint32_t k = 0; k < n && !is->listeners[i].retired; k++)
			if (out[k].retired && same_listener(&out[k], &is->listeners[i], of))
				assign(out, k, &is->listeners[i]);
}

/*
 * Datagrams first: sessions send by the socket of their row.  A connection has a socket of its own, so that the row
 * which serves a TCP port may be another one from now on (two rows that are written as one, or one as two).
 */
static int
keep_listeners(const struct conf *was, struct conf *is)
{
	struct conf_listener out[CONF_LISTENERS_MAX];
	uint32_t n = was->listener_count;

	memcpy(out, was->listeners, sizeof out);
	for (uint32_t i = 0; i < n; i++)
		out[i].retired = 1;
	for (uint32_t i = 0; i < is->listener_count; i++)
		is->listeners[i].retired = 0;
	keep_those_of(out, n, is, ~(unsigned)TRANSPORT_STREAMS);
	keep_those_of(out, n, is, TRANSPORT_STREAMS);
	for (uint32_t i = 0; i < is->listener_count; i++) {
		if (is->listeners[i].retired)
			continue;
		if (n == CONF_LISTENERS_MAX)
			return -ENOSPC;
		assign(out, n++, &is->listeners[i]);
	}
	memcpy(is->listeners, out, sizeof out);
	is->listener_count = n;
	return 0;
}

static int
keep_relays(const struct conf *was, struct conf *is)
{
	struct conf_relay out[CONF_RELAYS_MAX];
	uint32_t n = was->relay_count;

	memcpy(out, was->relays, sizeof out);
	for (uint32_t i = 0; i < n; i++)
		out[i].retired = 1;
	for (uint32_t i = 0; i < is->relay_count; i++) {
		uint32_t k = 0;
		while (k < n && !(out[k].retired && same_relay(&out[k], &is->relays[i])))
			k++;
		if (k == CONF_RELAYS_MAX)
			return -ENOSPC;
		if (k == n)
			n++;
		out[k] = is->relays[i];
		out[k].retired = 0;
	}
	memcpy(is->relays, out, sizeof out);
	is->relay_count = n;
	return 0;
}

int
conf_keep_rows(const struct conf *was, struct conf *is)
{
	int e = keep_listeners(was, is);

	return e < 0 ? e : keep_relays(was, is);
}

/* Without the retired rows, as the file has it: for the difference that is reported. */
void
conf_strip_rows(struct conf *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->listener_count; i++)
		if (!c->listeners[i].retired)
			c->listeners[n++] = c->listeners[i];
	c->listener_count = n;
	n = 0;
	for (uint32_t i = 0; i < c->relay_count; i++)
		if (!c->relays[i].retired)
			c->relays[n++] = c->relays[i];
	c->relay_count = n;
}
