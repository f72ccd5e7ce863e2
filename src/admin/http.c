/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * http.c: /metrics, /healthz and /readyz through libmicrohttpd, driven by our loop: no thread, one epoll descriptor.
 */
#include "config.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "admin_int.h"

#define CONNECTIONS 32
#define IDLE_SECONDS 10

const bool http_is_built = true;

struct http {
	struct MHD_Daemon *mhd;
	struct loop *loop;
	struct view *view;
	int epoll;
	unsigned timer;
};

static enum MHD_Result
respond(struct MHD_Connection *c, unsigned status, const char *type, char *body, size_t len)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result done;

	if (r == NULL) {
		free(body);
		return MHD_NO;
	}
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	if (strncmp(type, "text/html", 9) == 0)
		MHD_add_response_header(r, "Content-Security-Policy", status_page_policy());
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	done = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return done;
}

/* OpenMetrics for those that ask for it; Prometheus' text format for all others. */
static bool
accepts_openmetrics(struct MHD_Connection *c)
{
	const char *accept = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);

	return accept != NULL && strstr(accept, "application/openmetrics-text") != NULL;
}

/* A foreign web page can make a browser ask this port, by a name of its own that it then lets lead here. */
static bool
asked_by_address(struct MHD_Connection *c)
{
	const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
	char name[64];
	struct addr a;

	if (host == NULL || text_copy(name, sizeof name, host) >= sizeof name)
		return false;
	if (addr_parse(&a, name) == 0)
		return true;
	name[strcspn(name, ":")] = '\0';
	return strcmp(name, "localhost") == 0;
}

static unsigned
write_body(struct http *h, struct MHD_Connection *c, const char *method, const char *url, FILE *f, const char **type)
{
	*type = "text/plain; charset=utf-8";
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
		fputs("method not allowed\n", f);
		return MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	if (strcmp(url, "/healthz") == 0 || strcmp(url, "/readyz") == 0)
		return health_write(h->view, url[1] == 'r', f);
	if (strcmp(url, "/metrics") == 0) {
		bool classic = !accepts_openmetrics(c);

		*type = classic ? METRICS_TYPE_CLASSIC : METRICS_TYPE;
		metrics_write(h->view, clock_ms(), classic, f);
		return MHD_HTTP_OK;
	}
	if (strcmp(url, "/") == 0 || strcmp(url, "/status.json") == 0) {
		if (!asked_by_address(c)) {
			fputs("the status page answers to an IP address or localhost only\n", f);
			return MHD_HTTP_FORBIDDEN;
		}
		*type = url[1] == '\0' ? "text/html; charset=utf-8" : "application/json";
		if (url[1] == '\0')
			fputs(status_page, f);
		else
			status_page_figures(h->view, clock_ms(), f);
		return MHD_HTTP_OK;
	}
	fputs("not found\n", f);
	return MHD_HTTP_NOT_FOUND;
}

static enum MHD_Result
on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version,
    const char *upload, size_t *upload_len, void **state)
{
	struct http *h = arg;
	const char *type;
	char *body = NULL;
	size_t len = 0;
	unsigned status;
	FILE *f;

	(void)version;
	(void)upload;
	if (*upload_len > 0) {		/* a body that nobody asked for */
		*upload_len = 0;
		return MHD_YES;
	}
	if (*state == NULL) {		/* first call: headers only; the answer comes with the second */
		*state = h;
		return MHD_YES;
	}
	f = open_memstream(&body, &len);
	if (f == NULL)
		return MHD_NO;
	status = write_body(h, c, method, url, f, &type);
	if (fclose(f) != 0) {
		free(body);
		return MHD_NO;
	}
	return respond(c, status, type, body, len);
}

static void turn_crank(struct http *h);

static void
on_timer(void *arg)
{
	struct http *h = arg;

	h->timer = 0;
	turn_crank(h);
}

static void
on_event(void *arg, int fd, uint32_t events)
{
	(void)fd;
	(void)events;
	turn_crank(arg);
}

static void
turn_crank(struct http *h)
{
	MHD_UNSIGNED_LONG_LONG wait;

	MHD_run(h->mhd);
	if (h->timer != 0)
		loop_cancel(h->loop, h->timer);
	h->timer = MHD_get_timeout(h->mhd, &wait) == MHD_YES ? loop_after(h->loop, wait > 0 ? wait : 1, on_timer, h) : 0;
}

/* Trouble with a stranger's connection is no news. */
static void
on_log(void *arg, const char *fmt, va_list ap)
{
	(void)arg;
	(void)fmt;
	(void)ap;
}

int
http_start(struct http **out, struct loop *l, struct view *v, int fd)
{
	struct http *h = calloc(1, sizeof *h);
	const union MHD_DaemonInfo *info;

	if (h == NULL)
		return -ENOMEM;
	h->loop = l;
	h->view = v;
	h->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, h,
	    MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
	    MHD_OPTION_LISTEN_SOCKET, fd,
	    MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
	    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16384,
	    MHD_OPTION_END);
	info = h->mhd != NULL ? MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (info == NULL || loop_add(l, info->listen_fd, EPOLLIN, on_event, h) < 0) {
		if (h->mhd != NULL)
			MHD_stop_daemon(h->mhd);
		free(h);
		return -EIO;
	}
	h->epoll = info->listen_fd;
	*out = h;
	return 0;
}

void
http_stop(struct http *h)
{
	if (h == NULL)
		return;
	loop_del(h->loop, h->epoll);
	if (h->timer != 0)
		loop_cancel(h->loop, h->timer);
	MHD_stop_daemon(h->mhd);
	free(h);
}
