/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_socket.c: connections to the control socket.  One request at a time each; a client that does not
 * read, or asks for nothing, is let go, and makes room for a new one when there are many.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "admin_int.h"

#define CONNECTIONS 32
#define IDLE_MS     60000
#define WAIT_MS     600000 /* for the supervisor: a drain is answered at once, a rolling restart is not */

struct talk {
	struct control *control; /* NULL: free */
	int fd;
	char in[CTL_LINE_MAX];
	size_t in_len;
	char *out; /* the answer on its way: head and body */
	size_t out_len, out_at;
	char *body; /* of the job, while it is written */
	size_t body_len;
	struct job job;
	bool busy, writing, eof;
	unsigned timer;
	uint64_t since; /* order of arrival */
};
struct control {
	struct loop *loop;
	struct view *view;
	const struct control_ops *ops;
	int listen_fd;
	uint64_t arrivals;
	struct talk conn[CONNECTIONS];
};

static void on_conn(void *arg, int fd, uint32_t events);
static void conn_step(struct talk *c);

static void
conn_close(struct talk *c)
{
	struct control *control = c->control;

	loop_del(control->loop, c->fd);
	close(c->fd);
	if (c->timer != 0)
		loop_cancel(control->loop, c->timer);
	if (c->job.out != NULL)
		fclose(c->job.out);
	json_decref(c->job.lines);
	json_decref(c->job.urls);
	free(c->body);
	free(c->out);
	memset(c, 0, sizeof *c);
}

static void
on_idle(void *arg)
{
	struct talk *c = arg;

	c->timer = 0;
	conn_close(c);
}

static void
conn_timer(struct talk *c, tp_ms span)
{
	if (c->timer != 0)
		loop_cancel(c->control->loop, c->timer);
	c->timer = loop_after(c->control->loop, span, on_idle, c);
}

/* ---- answers -------------------------------------------------------------------------------------- */

/* The body is complete: puts the head before it. */
static int
answer(struct talk *c, int code)
{
	char head[CTL_HEAD_MAX];
	int n;

	if (fclose(c->job.out) != 0)
		c->body_len = 0;
	c->job.out = NULL;
	n = snprintf(head, sizeof head, "%d %zu\n", code, c->body_len);
	c->out = malloc((size_t)n + c->body_len);
	if (c->out == NULL)
		return -ENOMEM;
	memcpy(c->out, head, (size_t)n);
	if (c->body_len > 0)
		memcpy(c->out + n, c->body, c->body_len);
	c->out_len = (size_t)n + c->body_len;
	c->out_at = 0;
	free(c->body);
	c->body = NULL;
	c->body_len = 0;
	json_decref(c->job.lines);
	json_decref(c->job.urls);
	memset(&c->job, 0, sizeof c->job);
	c->busy = false;
	conn_timer(c, IDLE_MS);
	return 0;
}

static int
job_begin(struct talk *c)
{
	c->busy = true;
	c->job = (struct job){
		.control = c->control,
		.view = c->control->view,
		.ops = c->control->ops,
		.now = clock_ms(),
		.out = open_memstream(&c->body, &c->body_len),
	};
	return c->job.out != NULL ? 0 : -ENOMEM;
}

static int
job_line(struct talk *c, char *line)
{
	char *words[CTL_WORDS_MAX], **w = words;
	int n = ctl_split(line, words), command;

	if (n > 0 && strcmp(w[0], "--json") == 0) {
		c->job.as_json = true;
		w++;
		n--;
	}
	if (n <= 0)
		return job_say(&c->job, CTL_USAGE, "not a command line; try: help");
	command = ctl_command_find(w[0]);
	if (command < 0)
		return job_say(&c->job, CTL_USAGE, "no such command; try: help");
	c->job.argc = n - 1;
	c->job.argv = w + 1;
	return job_run(&c->job, (enum ctl_command)command);
}

/* The first line of what was read, if it is complete. */
static int
take_line(struct talk *c)
{
	char *end = memchr(c->in, '\n', c->in_len), line[CTL_LINE_MAX];
	size_t n;
	int code;

	if (end == NULL)
		return c->in_len == sizeof c->in ? -EMSGSIZE : -EAGAIN;
	n = (size_t)(end - c->in);
	memcpy(line, c->in, n);
	if (n > 0 && line[n - 1] == '\r')
		n--;
	line[n] = '\0';
	c->in_len -= (size_t)(end + 1 - c->in);
	memmove(c->in, end + 1, c->in_len);
	if (job_begin(c) < 0)
		return -ENOMEM;
	/* A NUL byte would hide the rest of the line. */
	code = strlen(line) != n ? job_say(&c->job, CTL_USAGE, "not a text line") : job_line(c, line);
	if (code != JOB_WAITS)
		return answer(c, code);
	conn_timer(c, WAIT_MS);
	return 0;
}

/* ---- life of a connection ---------------------------------------------------------------------------- */

static int
conn_read(struct talk *c)
{
	ssize_t n;

	if (c->eof || c->in_len == sizeof c->in)
		return 0;
	n = recv(c->fd, c->in + c->in_len, sizeof c->in - c->in_len, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	c->eof = n == 0;
	c->in_len += (size_t)n;
	return 0;
}

/* 1 all written, 0 the client must read first. */
static int
conn_write(struct talk *c)
{
	while (c->out != NULL && c->out_at < c->out_len) {
		ssize_t n = send(
		    c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		c->out_at += (size_t)n;
	}
	free(c->out);
	c->out = NULL;
	return 1;
}

/* Writes what is to be written and works on what was read, as far as both go now. */
static void
conn_step(struct talk *c)
{
	uint32_t want = 0;
	int n;

	for (;;) {
		if ((n = conn_write(c)) < 0) {
			conn_close(c);
			return;
		}
		if (n == 0 || c->busy)
			break;
		if ((n = take_line(c)) == -EAGAIN)
			break;
		if (n < 0) {
			conn_close(c);
			return;
		}
	}
	if (c->eof && c->out == NULL && !c->busy) {
		conn_close(c);
		return;
	}
	if (c->out != NULL)
		want |= EPOLLOUT;
	else if (!c->eof && !c->busy)
		want |= EPOLLIN;
	loop_mod(c->control->loop, c->fd, want);
}

static void
on_conn(void *arg, int fd, uint32_t events)
{
	struct talk *c = arg;

	(void)fd;
	if ((events & (EPOLLHUP | EPOLLERR)) != 0 || conn_read(c) < 0)
		conn_close(c);
	else
		conn_step(c);
}

/* Root, our own user, and our group: the socket's mode has the same rule, unless it was changed. */
static bool
may_connect(int fd)
{
	struct ucred u;
	gid_t groups[256];
	socklen_t len = sizeof u, groups_len = sizeof groups;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) < 0)
		return false;
	if (u.uid == 0 || u.uid == geteuid() || u.gid == getegid())
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &groups_len) < 0)
		return false;
	for (size_t i = 0; i < groups_len / sizeof groups[0]; i++)
		if (groups[i] == getegid())
			return true;
	return false;
}

static void
say_and_close(int sock, const char *why)
{
	char text[200];
	int n = snprintf(text, sizeof text, "%d %zu\n%s\n", CTL_REFUSED, strlen(why) + 1, why);

	(void)send(sock, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(sock);
}

/* A connection that waits for its client gives its place up, the oldest first; one that waits for the
 * supervisor does not. */
static struct talk *
free_place(struct control *control)
{
	struct talk *oldest = NULL;

	for (unsigned i = 0; i < CONNECTIONS; i++) {
		struct talk *c = &control->conn[i];

		if (c->control == NULL)
			return c;
		if (!c->busy && (oldest == NULL || c->since < oldest->since))
			oldest = c;
	}
	if (oldest != NULL)
		conn_close(oldest);
	return oldest;
}

static void
on_listen(void *arg, int fd, uint32_t events)
{
	struct control *control = arg;
	int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct talk *c;

	(void)events;
	if (sock < 0)
		return;
	if (!may_connect(sock)) {
		say_and_close(sock,
		    "only root, the user that the daemon runs as and members of its group may ask it");
		return;
	}
	c = free_place(control);
	if (c == NULL) {
		say_and_close(sock, "too many commands wait for the supervisor: try again");
		return;
	}
	c->control = control;
	c->fd = sock;
	c->since = ++control->arrivals;
	if (loop_add(control->loop, sock, EPOLLIN, on_conn, c) < 0) {
		close(sock);
		c->control = NULL;
		return;
	}
	conn_timer(c, IDLE_MS);
}

struct control *
control_new(struct loop *l, struct view *v, const struct control_ops *ops, int listen_fd)
{
	struct control *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	c->loop = l;
	c->view = v;
	c->ops = ops;
	c->listen_fd = listen_fd;
	if (loop_add(l, listen_fd, EPOLLIN, on_listen, c) < 0) {
		free(c);
		return NULL;
	}
	return c;
}

void
control_free(struct control *c)
{
	if (c == NULL)
		return;
	for (unsigned i = 0; i < CONNECTIONS; i++)
		if (c->conn[i].control != NULL)
			conn_close(&c->conn[i]);
	loop_del(c->loop, c->listen_fd);
	free(c);
}

static struct talk *
find_job(struct control *c, uint32_t request)
{
	for (unsigned i = 0; i < CONNECTIONS && request != 0; i++)
		if (c->conn[i].control != NULL && c->conn[i].busy && c->conn[i].job.request == request)
			return &c->conn[i];
	return NULL;
}

static void
job_ended(struct talk *c, int code)
{
	if (code == JOB_WAITS)
		return;
	if (answer(c, code) < 0)
		conn_close(c);
	else
		conn_step(c);
}

void
control_reply(struct control *control, const struct msg_reply *r)
{
	struct talk *c = find_job(control, r->request);

	if (c != NULL)
		job_ended(c, job_reply(&c->job, r));
}

void
control_credential(struct control *control, const struct msg_cred_answer *a)
{
	struct talk *c = find_job(control, a->request);

	if (c != NULL)
		job_ended(c, job_credential(&c->job, a));
}

void
control_database(struct control *control, const struct msg_db_answer *a)
{
	struct talk *c = find_job(control, a->request);

	if (c != NULL)
		job_ended(c, job_database(&c->job, a));
}
