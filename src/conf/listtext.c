/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listtext.c: the lists of a compiled configuration as YAML, in the shapes that lists.c reads.
 */
#include "config.h"

#include <stdio.h>

#include "tp/conf.h"
#include "conf_int.h"

const char *const conf_transport_names[4] = { "udp", "tcp", "tls", "dtls" };

void
yaml_print_text(const char *text, FILE *f)
{
	bool plain = text[0] != '\0' && strchr("-?:,[]{}#&*!|>'\"%@`~<=. ", text[0]) == NULL;

	for (const char *s = text; *s != '\0' && plain; s++)
		plain = (unsigned char)*s > 0x20 && (unsigned char)*s < 0x7f &&
		    strchr(":#,[]{}\"\\", *s) == NULL;
	if (plain) {
		fputs(text, f);
		return;
	}
	putc('"', f);
	for (const char *s = text; *s != '\0'; s++) {
		if (*s == '"' || *s == '\\')
			putc('\\', f);
		putc(*s, f); /* control characters never get into a field; UTF-8 passes */
	}
	putc('"', f);
}

static void
print_transports(uint8_t set, FILE *f)
{
	const char *sep = "";

	fputs(", transport: [ ", f);
	for (unsigned bit = 0; bit < TP_COUNT(conf_transport_names); bit++)
		if (set & (1u << bit)) {
			fprintf(f, "%s%s", sep, conf_transport_names[bit]);
			sep = ", ";
		}
	fputs(" ]", f);
}

static void
print_listener(const struct conf_listener *l, FILE *f)
{
	char buf[ADDR_STRLEN];

	fputs("{ address: ", f);
	yaml_print_text(addr_print_ip(&l->addr, buf), f);
	fprintf(f, ", port: %u", l->addr.port);
	print_transports(l->transports, f);
	for (unsigned i = 0; i < l->proxy_count; i++) {
		fputs(i == 0 ? ", proxy_protocol: [ " : ", ", f);
		yaml_print_text(cidr_print(&l->proxy[i], buf), f);
	}
	fputs(l->proxy_count > 0 ? " ] }" : " }", f);
}

static void
print_relay(const struct conf *c, const struct conf_relay *r, FILE *f)
{
	char buf[ADDR_STRLEN];

	fputs("{ address: ", f);
	yaml_print_text(addr_print_ip(&r->addr, buf), f);
	if (r->external_name[0] != '\0') {
		fprintf(f, ", external: %s", r->external_name);
	} else if (r->external.family != ADDR_NONE) {
		fputs(", external: ", f);
		yaml_print_text(addr_print_ip(&r->external, buf), f);
	}
	if (r->port_min != c->relay_ports.min || r->port_max != c->relay_ports.max)
		fprintf(f, ", ports: %u-%u", r->port_min, r->port_max);
	fputs(" }", f);
}

static void
print_own(const struct conf_own *o, FILE *f)
{
	char buf[ADDR_STRLEN];
	bool v6 = o->addr.family == ADDR_V6;

	fprintf(f, "\"%s%s%s:%u-%u/udp\"", v6 ? "[" : "", addr_print_ip(&o->addr, buf), v6 ? "]" : "",
	    o->ports.min, o->ports.max);
}

static void
print_alternate(const struct conf_alternate *a, FILE *f)
{
	char buf[ADDR_STRLEN];

	fputs("{ address: ", f);
	yaml_print_text(addr_print(&a->addr, buf), f);
	print_transports(a->transports, f);
	if (a->domain[0] != '\0') {
		fputs(", domain: ", f);
		yaml_print_text(a->domain, f);
	}
	fputs(" }", f);
}

static void
print_certificate(const struct conf_certificate *x, FILE *f)
{
	fputs("{ certificate: ", f);
	yaml_print_text(x->certificate, f);
	fputs(", key: ", f);
	yaml_print_text(x->key, f);
	if (x->password_file[0] != '\0') {
		fputs(", password_file: ", f);
		yaml_print_text(x->password_file, f);
	}
	fputs(" }", f);
}

static const struct conf_rules *
rules_of(const struct conf *c, enum option_id id)
{
	return id == OPTION_peer_deny ? &c->peer_deny
	    : id == OPTION_peer_allow ? &c->peer_allow
				      : &c->peer_private;
}

const char *const conf_database_types[CONF_DB_TYPES] = { "postgresql", "redis", "sqlite", "mariadb",
	"http" };

/* Without the connection, which may hold a password. */
static void
print_database(const struct conf_database *d, FILE *f)
{
	fputs("{ name: ", f);
	yaml_print_text(d->name, f);
	fprintf(f, ", type: %s, connection: (not shown), connections: %u, timeout: %ums }",
	    conf_database_types[d->type], d->connections, d->timeout_ms);
}

unsigned
list_len(const struct conf *c, enum option_id id)
{
	switch (id) {
	case OPTION_listeners:
		return c->listener_count;
	case OPTION_relays:
		return c->relay_count;
	case OPTION_certificates:
		return c->certificate_count;
	case OPTION_databases:
		return c->database_count;
	case OPTION_alternates:
		return c->alternate_count;
	case OPTION_peer_own:
		return c->peer_own_count;
	case OPTION_peer_deny:
	case OPTION_peer_allow:
	case OPTION_peer_private:
		return rules_of(c, id)->count;
	default:
		return 0;
	}
}

void
list_print_entry(const struct conf *c, enum option_id id, unsigned i, FILE *f)
{
	char buf[ADDR_STRLEN];

	if (id == OPTION_listeners)
		print_listener(&c->listeners[i], f);
	else if (id == OPTION_relays)
		print_relay(c, &c->relays[i], f);
	else if (id == OPTION_certificates)
		print_certificate(&c->certificates[i], f);
	else if (id == OPTION_databases)
		print_database(&c->databases[i], f);
	else if (id == OPTION_alternates)
		print_alternate(&c->alternates[i], f);
	else if (id == OPTION_peer_own)
		print_own(&c->peer_own[i], f);
	else
		yaml_print_text(cidr_print(&rules_of(c, id)->rule[i], buf), f);
}

void
list_print(const struct conf *c, enum option_id id, FILE *f)
{
	unsigned n = list_len(c, id);

	if (id == OPTION_users || id == OPTION_secrets) {
		fprintf(f, "%u %s", id == OPTION_users ? c->user_count : c->secret_count,
		    id == OPTION_users ? "users" : "secrets");
		return;
	}
	if (n == 0) {
		fputs("[]", f);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		fputs(i == 0 ? "[ " : ", ", f);
		list_print_entry(c, id, i, f);
	}
	fputs(" ]", f);
}

void
list_print_block(const struct conf *c, enum option_id id, unsigned indent, FILE *f)
{
	unsigned n = list_len(c, id);

	for (unsigned i = 0; i < n; i++) {
		fprintf(f, "%*s- ", (int)indent, "");
		list_print_entry(c, id, i, f);
		putc('\n', f);
	}
}
