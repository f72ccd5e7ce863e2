/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * http.c: /metrics, /healthz and /readyz through libmicrohttpd, driven by our loop: no thread, one epoll
 * descriptor.
 *
 * A connection is ours until its request has come whole, and libmicrohttpd's for the answer, which fits
 * into the socket's buffer; then it ends.  So a client that is idle or slow holds a place here only, and
 * the oldest of these makes room for a new one: clients that do nothing cost the others nothing, however
 * many they are.
 */
#include "config.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin_int.h"

#define WAITING_MAX    64   /* connections whose request is not complete */
#define WAIT_MS        5000 /* for the whole of it */
#define REQUEST_MAX    8192
#define ANSWERS_MAX    64
#define ANSWER_SECONDS 5
#define ANSWER_BUFFER  (1 << 20) /* the kernel gives what net.core.wmem_max permits */

const bool http_is_built = true;

struct waiting {
	struct http *http; /* NULL: free */
	int fd;
	unsigned timer;
	uint64_t since; /* order of arrival */
};
struct http {
	struct MHD_Daemon *mhd;
	struct loop *loop;
	struct view *view;
	int epoll, listen_fd;
	unsigned timer;
	uint64_t arrivals;
	struct waiting waiting[WAITING_MAX];
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
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
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
write_body(struct http *h, struct MHD_Connection *c, const char *method, const char *url, FILE *f,
    const char **type)
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
	(void)upload_len;
	/* The first call, with the headers alone: the answer does not wait for a body, which no request
	 * here has. */
	(void)state;
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
on_answers(void *arg, int fd, uint32_t events)
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
	h->timer = MHD_get_timeout(h->mhd, &wait) == MHD_YES
	    ? loop_after(h->loop, wait > 0 ? wait : 1, on_timer, h)
	    : 0;
}

/* Trouble with a stranger's connection is no news. */
static void
on_log(void *arg, const char *fmt, va_list ap)
{
	(void)arg;
	(void)fmt;
	(void)ap;
}

/* ---- connections before their request is complete -------------------------------------------- */

/* The descriptor is the caller's from now on. */
static int
take_out(struct waiting *w)
{
	struct http *h = w->http;
	int fd = w->fd;

	loop_del(h->loop, fd);
	if (w->timer != 0)
		loop_cancel(h->loop, w->timer);
	*w = (struct waiting){ .http = NULL };
	return fd;
}

static void
on_late(void *arg)
{
	struct waiting *w = arg;

	w->timer = 0;
	close(take_out(w));
}

/* Looks without taking: libmicrohttpd reads the request from its first byte. */
static bool
is_complete(int fd, bool *ended)
{
	char text[REQUEST_MAX];
	ssize_t n = recv(fd, text, sizeof text, MSG_PEEK | MSG_DONTWAIT);

	*ended = n == 0 || n == sizeof text || (n < 0 && errno != EAGAIN && errno != EINTR);
	return n > 0 &&
	    (memmem(text, (size_t)n, "\r\n\r\n", 4) != NULL || memmem(text, (size_t)n, "\n\n", 2) != NULL);
}

static void
on_request_bytes(void *arg, int fd, uint32_t events)
{
	struct waiting *w = arg;
	struct http *h = w->http;
	struct sockaddr_storage peer;
	socklen_t len = sizeof peer;
	bool ended;

	(void)events;
	if (is_complete(fd, &ended)) {
		fd = take_out(w);
		if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0)
			close(fd);
		else if (MHD_add_connection(h->mhd, fd, (struct sockaddr *)&peer, len) ==
		    MHD_YES) /* it closes fd, else, too */
			turn_crank(h);
	} else if (ended) {
		close(take_out(w));
	}
}

static struct waiting *
free_place(struct http *h)
{
	struct waiting *oldest = &h->waiting[0];

	for (unsigned i = 0; i < WAITING_MAX; i++) {
		if (h->waiting[i].http == NULL)
			return &h->waiting[i];
		if (h->waiting[i].since < oldest->since)
			oldest = &h->waiting[i];
	}
	close(take_out(oldest));
	return oldest;
}

static void
on_listen(void *arg, int listen_fd, uint32_t events)
{
	struct http *h = arg;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), size = ANSWER_BUFFER;
	struct waiting *w;

	(void)events;
	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	w = free_place(h);
	*w = (struct waiting){ .http = h, .fd = fd, .since = ++h->arrivals };
	/* Edge-triggered: bytes that were looked at stay there. */
	if (loop_add(h->loop, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, on_request_bytes, w) < 0) {
		w->http = NULL;
		close(fd);
		return;
	}
	w->timer = loop_after(h->loop, WAIT_MS, on_late, w);
}

/* ---- life ------------------------------------------------------------------------------------ */

int
http_start(struct http **out, struct loop *l, struct view *v, int fd)
{
	struct http *h = calloc(1, sizeof *h);
	const union MHD_DaemonInfo *info;

	if (h == NULL)
		return -ENOMEM;
	h->loop = l;
	h->view = v;
	h->listen_fd = fd;
	h->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0, NULL,
	    NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_CONNECTION_LIMIT,
	    (unsigned)ANSWERS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ANSWER_SECONDS,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16384, MHD_OPTION_END);
	info = h->mhd != NULL ? MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (info == NULL || loop_add(l, info->listen_fd, EPOLLIN, on_answers, h) < 0 ||
	    loop_add(l, fd, EPOLLIN, on_listen, h) < 0) {
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
	loop_del(h->loop, h->listen_fd);
	for (unsigned i = 0; i < WAITING_MAX; i++)
		if (h->waiting[i].http != NULL)
			close(take_out(&h->waiting[i]));
	if (h->timer != 0)
		loop_cancel(h->loop, h->timer);
	MHD_stop_daemon(h->mhd);
	close(h->listen_fd);
	free(h);
}
