/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * validate.c: is a mapped CONF, USERS or CERTS region fit for use?  Run once after mapping, so that no
 * other code needs to check counts, terminators and enums.  The regions are sealed: what was checked stays.
 */
#include "config.h"

#include <errno.h>

#include "tp/conf.h"
#include "conf_int.h"

static bool
is_terminated(const char *field, size_t size)
{
	return memchr(field, '\0', size) != NULL;
}

static uint32_t
enum_max(enum opt_type type)
{
	switch (type) {
	case OPT_ENUM_FAMILY:
		return CONF_FAMILY_CLIENT;
	case OPT_ENUM_ALGS:
		return CONF_ALGS_SHA256;
	case OPT_ENUM_REST:
		return CONF_REST_LAST;
	case OPT_ENUM_LEVEL:
		return LOG_L_DEBUG;
	case OPT_ENUM_ENGINE:
		return CONF_ENGINE_GSO;
	case OPT_ENUM_TLS:
		return CONF_TLS13;
	default:
		return CONF_LOG_JSON;
	}
}

static bool
option_is_valid(const struct conf *c, const struct option_row *o)
{
	const char *field = (const char *)c + o->offset;
	struct conf_ports ports;
	uint64_t v = 0;

	switch (o->type) {
	case OPT_LIST:
		return true;
	case OPT_BOOL:
		return (unsigned char)*field <= 1;
	case OPT_PORTS:
		memcpy(&ports, field, sizeof ports);
		return ports.min >= o->min && ports.min <= ports.max;
	case OPT_STR:
	case OPT_PATH:
		return is_terminated(field, o->size) && strlen(field) >= o->min && strlen(field) <= o->max;
	case OPT_INT:
	case OPT_TIME:
	case OPT_SIZE:
	case OPT_RATE:
	case OPT_COUNT_AUTO:
		memcpy(&v, field, sizeof v);
		return (v >= o->min && v <= o->max) || (o->type == OPT_COUNT_AUTO && v == 0);
	default:
		return *(const uint32_t *)(const void *)field <= enum_max(o->type);
	}
}

static bool
addr_is_valid(const struct addr *a, bool may_be_none)
{
	return a->family == ADDR_V4 || a->family == ADDR_V6 || (may_be_none && a->family == ADDR_NONE);
}

static bool
cidr_is_valid(const struct cidr *c)
{
	return (c->family == ADDR_V4 && c->bits <= 32) || (c->family == ADDR_V6 && c->bits <= 128);
}

static bool
proxies_are_valid(const struct conf_listener *l)
{
	if (l->proxy_count > CONF_PROXIES_MAX)
		return false;
	for (unsigned i = 0; i < l->proxy_count; i++)
		if (!cidr_is_valid(&l->proxy[i]))
			return false;
	return true;
}

static bool
rules_are_valid(const struct conf_rules *r)
{
	if (r->count > CONF_RULES_MAX)
		return false;
	for (uint32_t i = 0; i < r->count; i++)
		if (!cidr_is_valid(&r->rule[i]))
			return false;
	return true;
}

static bool
lists_are_valid(const struct conf *c)
{
	if (c->listener_count > LISTENERS_MAX || c->relay_count > RELAYS_MAX ||
	    c->peer_own_count > CONF_OWN_MAX || c->host_addr_count > CONF_HOST_ADDRS_MAX ||
	    c->certificate_count > CONF_CERTS_MAX || c->alternate_count > CONF_ALTERNATES_MAX ||
	    c->warning_count > CONF_WARNINGS_MAX || c->secret_file_count > CONF_SECRET_FILES)
		return false;
	for (uint32_t i = 0; i < c->warning_count; i++)
		if (!is_terminated(c->warning[i], CONF_WARNING_LEN))
			return false;
	for (uint32_t i = 0; i < c->secret_file_count; i++)
		if (!is_terminated(c->secret_files[i].path, CONF_PATH_MAX))
			return false;
	for (uint32_t i = 0; i < c->certificate_count; i++) {
		const struct conf_certificate *x = &c->certificates[i];

		if (!is_terminated(x->certificate, CONF_PATH_MAX) ||
		    !is_terminated(x->key, CONF_PATH_MAX) ||
		    !is_terminated(x->password_file, CONF_PATH_MAX))
			return false;
	}
	for (uint32_t i = 0; i < c->listener_count; i++) {
		const struct conf_listener *l = &c->listeners[i];

		if (!addr_is_valid(&l->addr, false) || l->addr.port == 0 || l->transports == 0 ||
		    !is_terminated(l->where, sizeof l->where) || !proxies_are_valid(l))
			return false;
	}
	for (uint32_t i = 0; i < c->relay_count; i++) {
		const struct conf_relay *r = &c->relays[i];

		if (!addr_is_valid(&r->addr, false) || !addr_is_valid(&r->external, true) ||
		    r->port_min == 0 || r->port_min > r->port_max ||
		    !is_terminated(r->external_name, sizeof r->external_name))
			return false;
	}
	for (uint32_t i = 0; i < c->alternate_count; i++) {
		const struct conf_alternate *a = &c->alternates[i];

		if (!addr_is_valid(&a->addr, false) || a->addr.port == 0 || a->transports == 0 ||
		    !is_terminated(a->domain, sizeof a->domain))
			return false;
	}
	for (uint32_t i = 0; i < c->peer_own_count; i++)
		if (!addr_is_valid(&c->peer_own[i].addr, false) ||
		    c->peer_own[i].ports.min > c->peer_own[i].ports.max)
			return false;
	for (uint32_t i = 0; i < c->host_addr_count; i++)
		if (!addr_is_valid(&c->host_addr[i], false))
			return false;
	return rules_are_valid(&c->peer_deny) && rules_are_valid(&c->peer_allow) &&
	    rules_are_valid(&c->peer_private);
}

int
conf_validate(const struct conf *c, size_t size)
{
	if (size < sizeof *c || c->magic != CONF_MAGIC || c->layout != CONF_LAYOUT)
		return -EINVAL;
	if (!is_terminated(c->file, sizeof c->file) || (unsigned char)*(const char *)&c->has_names > 1)
		return -EINVAL;
	for (unsigned i = 0; i < OPTION_COUNT; i++)
		if (!option_is_valid(c, &option_rows[i]))
			return -EINVAL;
	return lists_are_valid(c) ? 0 : -EINVAL;
}

static bool
user_is_valid(const struct users_user *u)
{
	if (u->name_len == 0 || u->name_len > USERS_NAME_MAX)
		return false;
	switch (u->kind) {
	case USERS_PASSWORD:
		return u->pass_len > 0 && u->pass_len <= USERS_PASSWORD_MAX;
	case USERS_KEY_MD5:
		return u->pass_len == 16;
	case USERS_KEY_SHA256:
		return u->pass_len == 32;
	default:
		return false;
	}
}

static bool
database_is_valid(const struct users_database *d)
{
	return is_terminated(d->name, sizeof d->name) &&
	    is_terminated(d->connection, sizeof d->connection) &&
	    is_terminated(d->secret, sizeof d->secret) && is_terminated(d->ca, sizeof d->ca) &&
	    is_terminated(d->where, sizeof d->where) && d->type < CONF_DB_TYPES && d->connections >= 1 &&
	    d->connections <= 32 && d->timeout_ms >= 100 && d->timeout_ms <= 1900;
}

int
users_validate(const struct users *u, size_t size)
{
	uint64_t need;

	if (size < sizeof *u || u->magic != USERS_MAGIC || u->layout != USERS_LAYOUT ||
	    !is_terminated(u->realm, sizeof u->realm) || u->database_count > USERS_DATABASES_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < u->database_count; i++)
		if (!database_is_valid(&u->database[i]))
			return -EINVAL;
	/* Counts are 32 bits and sizes below 1 KiB: no overflow in 64 bits. */
	need = sizeof *u + u->secret_count * (uint64_t)sizeof(struct users_secret) +
	    u->user_count * (uint64_t)sizeof(struct users_user);
	if (size < need)
		return -EINVAL;
	for (uint32_t i = 0; i < u->secret_count; i++)
		if (users_secrets(u)[i].len == 0 || users_secrets(u)[i].len > USERS_SECRET_MAX)
			return -EINVAL;
	for (uint32_t i = 0; i < u->user_count; i++)
		if (!user_is_valid(&users_users(u)[i]))
			return -EINVAL;
	return 0;
}

static bool
part_is_valid(struct certs_part p, uint32_t max, size_t size)
{
	return p.len <= max && p.at >= sizeof(struct certs) && p.at <= size && p.len <= size - p.at;
}

int
certs_validate(const struct certs *c, size_t size)
{
	if (size < sizeof *c || c->magic != CERTS_MAGIC || c->layout != CERTS_LAYOUT ||
	    c->count > CONF_CERTS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < c->count; i++) {
		const struct certs_entry *e = &c->entry[i];

		if (!part_is_valid(e->chain, CERTS_PEM_MAX, size) ||
		    !part_is_valid(e->key, CERTS_PEM_MAX, size) ||
		    !part_is_valid(e->password, CERTS_PASSWORD_MAX, size))
			return -EINVAL;
	}
	return 0;
}

static bool
ranges_are_valid(const struct addr_range *r, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!addr_is_valid(&r[i].first, false) || r[i].first.family != r[i].last.family)
			return false;
	return true;
}

int
followed_validate(const struct conf_followed *f, size_t size)
{
	if (size < sizeof *f || f->magic != FOLLOWED_MAGIC || f->layout != FOLLOWED_LAYOUT ||
	    f->deny_count > FOLLOWED_RANGES_MAX || f->allow_count > FOLLOWED_RANGES_MAX ||
	    f->addr_count > FOLLOWED_ADDRS_MAX || f->denied_count > CONF_DENIED_MAX ||
	    !ranges_are_valid(f->deny, f->deny_count) || !ranges_are_valid(f->allow, f->allow_count))
		return -EINVAL;
	for (uint32_t i = 0; i < f->addr_count; i++)
		if (!addr_is_valid(&f->addr[i], false))
			return -EINVAL;
	for (uint32_t i = 0; i < f->denied_count; i++)
		if (f->denied[i].name[0] == '\0' ||
		    !is_terminated(f->denied[i].name, sizeof f->denied[i].name))
			return -EINVAL;
	return 0;
}
