/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conf_rows.c: numbers of listener and relay rows across reloads.  Sessions name their listener and relay
 * address by row, so a row keeps its number as long as the daemon lives; one that is gone stays as
 * retired.
 *
 * What clients are told of a relay address belongs to its row: another external address makes another
 * row, and the sessions of the former one keep theirs.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "super_int.h"

#define DATAGRAMS (TRANSPORT_UDP | TRANSPORT_DTLS)

/*
 * TCP and TLS share one socket, UDP and DTLS another.  A row that loses its datagrams is retired: its
 * sessions send by its socket, and no new one may come to it.  Its TCP socket goes to the row that
 * follows (listeners_inherit()).
 */
static bool
same_listener(const struct conf_listener *was, const struct conf_listener *is, unsigned of)
{
	if ((was->transports & DATAGRAMS) != 0 && (is->transports & DATAGRAMS) == 0)
		return false;
	return addr_eq(&was->addr, &is->addr) && (was->transports & of) != 0 && (is->transports & of) != 0;
}

static bool
same_relay(const struct conf_relay *a, const struct conf_relay *b)
{
	return addr_eq(&a->addr, &b->addr) && a->port_min == b->port_min && a->port_max == b->port_max &&
	    (a->unknown == ROW_EXTERNAL_NOT_CARRIED ||
		(a->external.family == b->external.family && addr_ip_eq(&a->external, &b->external)));
}

/* Gives row k of `out` to a listener that has no row yet. */
static void
assign(struct conf_listener *out, uint32_t k, struct conf_listener *l)
{
	out[k] = *l;
	out[k].retired = out[k].closed = 0;
	l->retired = 1; /* of the new ones: it has its row */
}

/* A number that nothing refers to any more, else a new one. */
static uint32_t
free_row(const struct conf_listener *out, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++)
		if (out[k].retired && out[k].closed == CONF_ROW_FREE)
			return k;
	return n;
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
 * Datagrams first: sessions send by the socket of their row.  A connection has a socket of its own, so
 * that the row which serves a TCP port may be another one from now on (two rows that are written as one,
 * or one as two).
 */
static int
keep_listeners(const struct conf *was, struct conf *is)
{
	struct conf_listener out[LISTENERS_MAX];
	uint32_t n = was->listener_count;

	memcpy(out, was->listeners, sizeof out);
	for (uint32_t i = 0; i < n; i++)
		out[i].retired = 1;
	for (uint32_t i = 0; i < is->listener_count; i++)
		is->listeners[i].retired = 0;
	keep_those_of(out, n, is, DATAGRAMS);
	keep_those_of(out, n, is, TRANSPORT_STREAMS);
	for (uint32_t i = 0; i < is->listener_count; i++) {
		if (is->listeners[i].retired)
			continue;
		uint32_t k = free_row(out, n);
		if (k == LISTENERS_MAX)
			return -ENOSPC;
		assign(out, k, &is->listeners[i]);
		if (k == n)
			n++;
	}
	memcpy(is->listeners, out, sizeof out);
	is->listener_count = n;
	return 0;
}

/* A number for a new relay row: behind the others, or that of a former row without sockets.  -ENOSPC. */
static int
free_relay(const struct conf_relay *out, uint32_t *n, const struct port_map *ports)
{
	if (*n < RELAYS_MAX)
		return (int)(*n)++;
	for (unsigned k = 0; k < RELAYS_MAX; k++)
		if (out[k].retired && port_map_open(ports, k) == 0)
			return (int)k;
	return -ENOSPC;
}

static int
keep_relays(const struct conf *was, struct conf *is, const struct port_map *ports)
{
	struct conf_relay out[RELAYS_MAX];
	bool placed[RELAYS_MAX] = { false };
	uint32_t n = was->relay_count;

	memcpy(out, was->relays, sizeof out);
	for (uint32_t k = 0; k < n; k++)
		out[k].retired = 1;
	for (uint32_t i = 0; i < is->relay_count; i++)
		for (uint32_t k = 0; k < n && !placed[i]; k++)
			if (out[k].retired && same_relay(&out[k], &is->relays[i])) {
				out[k] = is->relays[i];
				out[k].retired = 0;
				placed[i] = true;
			}
	for (uint32_t i = 0; i < is->relay_count; i++) {
		int k = placed[i] ? 0 : free_relay(out, &n, ports);

		if (k < 0)
			return k;
		if (placed[i])
			continue;
		out[k] = is->relays[i];
		out[k].retired = 0;
	}
	for (uint32_t k = 0; k < n; k++)
		if (out[k].unknown == ROW_EXTERNAL_NOT_CARRIED)
			out[k].unknown = 0;
	memcpy(is->relays, out, sizeof out);
	is->relay_count = n;
	return 0;
}

int
conf_keep_rows(const struct conf *was, struct conf *is, const struct port_map *ports)
{
	int err = keep_listeners(was, is);

	return err < 0 ? err : keep_relays(was, is, ports);
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
