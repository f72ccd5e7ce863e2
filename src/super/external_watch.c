/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * external_watch.c: external addresses that are host names or `auto`, looked up again while the daemon
 * runs.
 *
 * turnpike-conf compiles the configuration once more, because the supervisor asks the network nothing.
 * Only the external addresses of the result are taken; what else stands in the file waits for a reload.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "super_int.h"

static bool
has_names(const struct conf *c)
{
	for (uint32_t i = 0; i < c->relay_count; i++)
		if (c->relays[i].external_name[0] != '\0' && !c->relays[i].retired)
			return true;
	return false;
}

/* The row that was compiled from the same words; NULL: none. */
static const struct conf_relay *
same_row(const struct conf *c, const struct conf_relay *r)
{
	for (uint32_t i = 0; i < c->relay_count; i++) {
		const struct conf_relay *o = &c->relays[i];

		if (!o->retired && addr_ip_eq(&o->addr, &r->addr) && o->port_min == r->port_min &&
		    o->port_max == r->port_max && strcmp(o->external_name, r->external_name) == 0)
			return o;
	}
	return NULL;
}

void
external_keep(const struct conf *was, struct conf *is)
{
	for (uint32_t i = 0; i < is->relay_count; i++) {
		struct conf_relay *r = &is->relays[i];
		const struct conf_relay *o = r->unknown ? same_row(was, r) : NULL;

		if (o != NULL && !o->unknown) {
			r->external = o->external;
			r->unknown = 0;
		}
	}
}

/* True: it is another one. */
static bool
take_row(struct conf_relay *r, const struct conf_relay *found)
{
	char inside[ADDR_STRLEN], was[ADDR_STRLEN], is[ADDR_STRLEN];

	if (found->unknown ||
	    (!r->unknown && addr_ip_eq(&r->external, &found->external) &&
		r->external.family == found->external.family))
		return false;
	log_info("relay: the external address of %s was %s and is %s (%s): new sessions get it",
	    addr_print_ip(&r->addr, inside),
	    r->external.family != ADDR_NONE ? addr_print_ip(&r->external, was) : "unknown",
	    found->external.family != ADDR_NONE ? addr_print_ip(&found->external, is) : "the same",
	    r->external_name);
	r->external = found->external;
	r->unknown = 0;
	return true;
}

/* True: `is` is `was` with another external address in some row, which makes it another row. */
static bool
others(const struct super *s, const struct conf *found, struct conf *is)
{
	bool changed = false;

	*is = s->conf;
	conf_strip_rows(is);
	for (uint32_t i = 0; i < is->relay_count; i++) {
		struct conf_relay *r = &is->relays[i];
		const struct conf_relay *o = r->external_name[0] != '\0' ? same_row(found, r) : NULL;

		if (o != NULL)
			changed |= take_row(r, o);
	}
	if (!changed)
		return false;
	if (conf_keep_rows(&s->conf, is, s->regions.ports_map) == 0)
		return true;
	log_errx("relay: sessions use all former external addresses: the present one stays until some end");
	return false;
}

void
external_take(struct super *s, const struct conf *found)
{
	struct conf *is = malloc(sizeof *is);

	if (is == NULL || others(s, found, is)) {
		if (is != NULL)
			is->generation++;
		if (is == NULL || super_conf_publish(s, is) < 0) {
			log_errx(
			    "relay: no memory for the configuration: the external address stays as it was");
		} else {
			pool_rows(&s->pool, &s->conf);
			super_tell_conf(s);
		}
	}
	free(is);
}

void
super_external_step(struct super *s, tp_ms now)
{
	if (s->conf.external_interval == 0 || s->reloading ||
	    (s->phase != SUPER_RUNNING && s->phase != SUPER_DRAINING))
		return;
	if (s->external_due == 0 || !has_names(&s->conf))
		s->external_due = now + s->conf.external_interval;
	if (now < s->external_due)
		return;
	s->external_due = now + s->conf.external_interval;
	super_conf_look(s, LOOK_EXTERNAL);
}
