/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_credentials.c: asks turnpike-auth for a REST credential and shows it as browsers want it.
 */
#include "config.h"

#include <stdlib.h>
#include <time.h>

#include "admin_int.h"

#define LIFETIME_DEFAULT 86400
#define LIFETIME_MOST    (3650 * 86400) /* as REST_LIFETIME_MAX of tp/authd.h */
#define USAGE            "usage: credentials USER [--lifetime TIME] [--sha256] [--ice-servers URL ...]"

static bool
is_loopback(const struct addr *a)
{
	static const uint8_t one[16] = { [15] = 1 };

	return a->family == ADDR_V4 ? a->ip[0] == 127 : memcmp(a->ip, one, sizeof one) == 0;
}

/* Clients outside a NAT reach a listener by the external address of the relay that has the same
 * internal one. */
static struct addr
seen_from_outside(const struct conf *c, const struct addr *a)
{
	for (unsigned i = 0; i < c->relay_count; i++)
		if (addr_ip_eq(&c->relays[i].addr, a) && c->relays[i].external.family != ADDR_NONE) {
			struct addr out = c->relays[i].external;
			out.port = a->port;
			return out;
		}
	return *a;
}

static void
add_url(json_t *urls, const char *scheme, const struct addr *a, const char *transport)
{
	char ip[ADDR_STRLEN];

	addr_print_ip(a, ip);
	json_array_append_new(urls,
	    json_sprintf(a->family == ADDR_V6 ? "%s:[%s]:%u?transport=%s" : "%s:%s:%u?transport=%s", scheme,
		ip, a->port, transport));
}

/* Browsers check the certificate against the name in the URL, and Firefox ignores `turns:` with an
 * address. */
static const char *
certificate_name(const struct conf *c)
{
	for (uint32_t i = 0; i < c->certificate_count; i++)
		if (c->certificates[i].name[0] != '\0')
			return c->certificates[i].name;
	return NULL;
}

/* Once, however many addresses listen. */
static void
add_name_url(json_t *urls, const struct addr *a, const char *name, const char *transport)
{
	json_t *url = json_sprintf("turns:%s:%u?transport=%s", name, a->port, transport), *x;
	size_t i;

	json_array_foreach(urls, i, x) if (json_equal(x, url))
	{
		json_decref(url);
		return;
	}
	json_array_append_new(urls, url);
}

/* RFC 7065, and RFC 7350 for turns over UDP, which is DTLS.  What browsers cannot do comes last: they
 * give up behind a few. */
static const struct {
	unsigned transport;
	const char *scheme, *over;
} kinds[] = {
	{ TRANSPORT_UDP, "turn", "udp" },
	{ TRANSPORT_TCP, "turn", "tcp" },
	{ TRANSPORT_TLS, "turns", "tcp" },
	{ TRANSPORT_DTLS, "turns", "udp" },
};

static json_t *
listener_urls(const struct conf *c)
{
	json_t *urls = json_array();
	bool any = false;

	for (unsigned i = 0; i < c->listener_count; i++)
		any = any || !is_loopback(&c->listeners[i].addr);
	for (unsigned k = 0; k < TP_COUNT(kinds); k++)
		for (unsigned i = 0; i < c->listener_count; i++) {
			const struct conf_listener *l = &c->listeners[i];
			struct addr a = seen_from_outside(c, &l->addr);

			if ((l->transports & kinds[k].transport) == 0 || l->retired ||
			    (any && is_loopback(&l->addr)))
				continue;
			if (kinds[k].scheme[4] == 's' && certificate_name(c) != NULL)
				add_name_url(urls, &a, certificate_name(c), kinds[k].over);
			else
				add_url(urls, kinds[k].scheme, &a, kinds[k].over);
		}
	return urls;
}

static json_t *
ice_servers(const struct conf *c, const json_t *urls, const char *name, const char *password)
{
	json_t *list = urls != NULL ? json_deep_copy(urls) : c != NULL ? listener_urls(c) : json_array();

	return json_pack("[{s:o, s:s, s:s}]", "urls", list, "username", name, "credential", password);
}

static bool
is_ice_url(const char *url)
{
	static const char *const schemes[] = { "turn:", "turns:", "stun:", "stuns:" };

	for (unsigned i = 0; i < TP_COUNT(schemes); i++)
		if (strncmp(url, schemes[i], strlen(schemes[i])) == 0)
			return url[strlen(schemes[i])] != '\0' && strchr(url, '/') == NULL;
	return false;
}

static int
read_words(struct job *j, struct msg_cred_ask *m)
{
	for (int i = 1; i < j->argc; i++) {
		if (strcmp(j->argv[i], "--sha256") == 0) {
			m->sha256 = 1;
		} else if (strcmp(j->argv[i], "--lifetime") == 0 && i + 1 < j->argc) {
			if (ctl_seconds(j->argv[++i], &m->lifetime) < 0)
				return -1;
		} else if (strcmp(j->argv[i], "--ice-servers") == 0 && i + 1 < j->argc) {
			if (j->urls == NULL)
				j->urls = json_array();
			for (i++; i < j->argc && j->argv[i][0] != '-'; i++) {
				if (!is_ice_url(j->argv[i]))
					return -1;
				json_array_append_new(j->urls, json_string(j->argv[i]));
			}
			i--;
		} else if (i > 1 ||
		    ctl_seconds(j->argv[i], &m->lifetime) < 0) { /* also: credentials USER 1d */
			return -1;
		}
	}
	return 0;
}

int
cmd_credentials(struct job *j)
{
	struct msg_cred_ask m = { .h = { .type = MSG_CRED_ASK }, .lifetime = LIFETIME_DEFAULT };
	int err;

	if (j->argc < 1 || text_copy(m.user, sizeof m.user, j->argv[0]) >= sizeof m.user ||
	    read_words(j, &m) < 0)
		return job_say(j, CTL_USAGE, USAGE);
	if (m.lifetime < 1 || m.lifetime > LIFETIME_MOST)
		return job_say(j, CTL_USAGE, "the lifetime must be from 1s to %dd", LIFETIME_MOST / 86400);
	for (const char *p = m.user; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			return job_say(j, CTL_USAGE, "the user must be printable ASCII");
	err = j->ops->ask_authd(j->ops->arg, &m);
	if (err < 0)
		return job_say(j, CTL_REFUSED, "turnpike-auth cannot be asked: %s", strerror(-err));
	j->request = m.request;
	return JOB_WAITS;
}

static void
text_credential(FILE *f, const json_t *d)
{
	static const char *const keys[] = { "username", "password", "realm", "expires" };
	const json_t *servers = json_object_get(d, "iceServers");
	char *snippet = json_dumps(servers, JSON_PRESERVE_ORDER);

	for (unsigned i = 0; i < TP_COUNT(keys); i++)
		fprintf(f, "%s: %s\n", keys[i], json_string_value(json_object_get(d, keys[i])));
	fprintf(f, "\n{ \"iceServers\": %s }\n", snippet != NULL ? snippet : "[]");
	free(snippet);
}

int
job_credential(struct job *j, const struct msg_cred_answer *a)
{
	char when[32] = "";
	time_t t = (time_t)a->expiry;
	struct tm tm;

	if (!a->ok)
		return job_say(
		    j, CTL_REFUSED, "no credentials: auth.secrets has no secret that is valid now");
	if (memchr(a->name, 0, sizeof a->name) == NULL ||
	    memchr(a->password, 0, sizeof a->password) == NULL ||
	    memchr(a->realm, 0, sizeof a->realm) == NULL)
		return job_say(j, CTL_REFUSED, "turnpike-auth answered nonsense");
	if (gmtime_r(&t, &tm) != NULL)
		strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return job_data(j, CTL_OK,
	    json_pack("{s:s, s:s, s:s, s:s, s:o}", "username", a->name, "password", a->password, "realm",
		a->realm, "expires", when, "iceServers",
		ice_servers(j->view->conf, j->urls, a->name, a->password)),
	    text_credential);
}
