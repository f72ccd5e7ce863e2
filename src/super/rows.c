/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rows.c: numbers of listener and relay rows across reloads.  Sessions name their listener and relay address by row,
 * so a row keeps its number as long as the daemon lives; one that is gone stays as retired.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "super_int.h"

static bool
same_listener(const struct conf_listener *a, const struct conf_listener *b)
{
	bool streams = (a->transports & CONF_STREAMS) != 0 && (b->transports & CONF_STREAMS) != 0;
	bool datagrams = (a->transports & ~CONF_STREAMS) != 0 && (b->transports & ~CONF_STREAMS) != 0;

	/* TCP and TLS share one socket, UDP and DTLS another. */
	return addr_eq(&a->addr, &b->addr) && (streams || datagrams);
}

static bool
same_relay(const struct conf_relay *a, const struct conf_relay *b)
{
	return addr_eq(&a->addr, &b->addr) && a->port_min == b->port_min && a->port_max == b->port_max;
}

static int
keep_listeners(const struct conf *was, struct conf *is)
{
	struct conf_listener out[CONF_LISTENERS_MAX];
	uint32_t n = was->listener_count;

	memcpy(out, was->listeners, sizeof out);
	for (uint32_t i = 0; i < n; i++)
		out[i].retired = 1;
	for (uint32_t i = 0; i < is->listener_count; i++) {
		uint32_t k = 0;
		while (k < n && !(out[k].retired && same_listener(&out[k], &is->listeners[i])))
			k++;
		if (k == CONF_LISTENERS_MAX)
			return -ENOSPC;
		if (k == n)
			n++;
		out[k] = is->listeners[i];
		out[k].retired = 0;
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
