/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.c: one line a record, to stderr or as one datagram to turnpike-admin.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base_int.h"

/* The only mutable global below prog: every file logs, and a handle through every call would hide more
 * than it shows.  A process logs from one thread. */
static struct {
	char name[24];
	unsigned role, index;
	enum log_level level;
	int fd; /* -1: stderr */
	uint64_t lost;
} logger = { .name = "turnpike", .level = LOG_L_INFO, .fd = -1 };

static const char *const level_names[] = {
	[LOG_L_ERROR] = "ERROR",
	[LOG_L_WARN] = "WARN",
	[LOG_L_INFO] = "INFO",
	[LOG_L_DEBUG] = "DEBUG",
};

void
log_init(const char *name, unsigned role, unsigned index, enum log_level level)
{
	text_copy(logger.name, sizeof logger.name, name);
	logger.role = role;
	logger.index = index;
	logger.level = level;
}

void
log_level_set(enum log_level level)
{
	logger.level = level;
}

enum log_level
log_level_get(void)
{
	return logger.level;
}

const char *
log_level_name(enum log_level level)
{
	return (unsigned)level < TP_COUNT(level_names) ? level_names[level] : "unknown";
}

void
log_sink_fd(int fd)
{
	logger.fd = fd;
}

uint64_t
log_lost(void)
{
	return logger.lost;
}

static void
send_record(
    enum log_level level, uint32_t suppressed, const struct log_fields *f, const char *text, size_t len)
{
	struct log_rec rec;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	rec.magic = LOG_REC_MAGIC;
	rec.level = (uint8_t)level;
	rec.role = (uint8_t)logger.role;
	rec.index = (uint8_t)logger.index;
	rec.zero = 0;
	rec.pid = (int32_t)getpid();
	rec.suppressed = suppressed;
	rec.wall_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	rec.len = (uint16_t)len;
	rec.fields_len = f != NULL ? f->len : 0;
	memcpy(rec.text, text, len);
	if (f != NULL)
		memcpy(rec.text + len, f->bytes, f->len);
	if (send(logger.fd, &rec, LOG_REC_HEAD + len + rec.fields_len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		logger.lost++;
}

/* "turnpike-worker[3] WARN text": one write, so that lines of several processes do not mix. */
static void
print_record(enum log_level level, uint32_t suppressed, const char *text)
{
	char line[LOG_TEXT_MAX + 128], more[40] = "";
	int n;

	if (suppressed > 0)
		snprintf(more, sizeof more, " (%u suppressed)", suppressed);
	n = snprintf(line, sizeof line, "turnpike-%s[%u] %s %s%s\n", logger.name, logger.index,
	    log_level_name(level), text, more);
	if (n > 0 && write(STDERR_FILENO, line, (size_t)n) != n)
		logger.lost++;
}

/* Formats, escapes, delivers.  err: an errno to name, 0 for none. */
static void TP_PRINTF(5, 0) record(enum log_level level, uint32_t suppressed, int err,
    const struct log_fields *f, const char *fmt, va_list ap)
{
	char raw[LOG_TEXT_MAX + 1], text[LOG_TEXT_MAX + 1], why[128];
	int n = vsnprintf(raw, sizeof raw, fmt, ap);
	size_t len = n < 0 ? 0 : (size_t)n < sizeof raw ? (size_t)n : sizeof raw - 1;

	if (err != 0 && len + 1 < sizeof raw) {
		n = snprintf(raw + len, sizeof raw - len, ": %s", strerror_r(err, why, sizeof why));
		len += n < 0 ? 0 : (size_t)n < sizeof raw - len ? (size_t)n : sizeof raw - len - 1;
	}
	base_escape(text, sizeof text, raw, len, false);
	if (logger.fd >= 0)
		send_record(level, suppressed, f, text, strlen(text));
	else
		print_record(level, suppressed, text);
}

/* One definition per public name: va_start needs the named argument. */
#define LOG_BODY(lvl, err)                                                                                 \
	do {                                                                                               \
		int saved = errno;                                                                         \
		if ((lvl) <= logger.level) {                                                               \
			va_list ap;                                                                        \
			va_start(ap, fmt);                                                                 \
			record((lvl), 0, (err), NULL, fmt, ap);                                            \
			va_end(ap);                                                                        \
		}                                                                                          \
		errno = saved;                                                                             \
	} while (0)

void
log_err(const char *fmt, ...)
{
	LOG_BODY(LOG_L_ERROR, saved);
}

void
log_errx(const char *fmt, ...)
{
	LOG_BODY(LOG_L_ERROR, 0);
}

void
log_warn(const char *fmt, ...)
{
	LOG_BODY(LOG_L_WARN, saved);
}

void
log_warnx(const char *fmt, ...)
{
	LOG_BODY(LOG_L_WARN, 0);
}

void
log_info(const char *fmt, ...)
{
	LOG_BODY(LOG_L_INFO, 0);
}

void
log_debug(const char *fmt, ...)
{
	LOG_BODY(LOG_L_DEBUG, 0);
}

/* The first record that passes after a suppression carries the count and clears it. */
bool
log_silent(struct log_class *c, uint32_t per_second, enum log_level level)
{
	struct timespec now;

	if (level > logger.level)
		return true;
	/* Coarse: the limit is for floods, and a flood must not cost a precise clock per record. */
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (c->second != (uint64_t)now.tv_sec) {
		c->second = (uint64_t)now.tv_sec;
		c->used = 0;
	}
	if (c->used < per_second)
		return false;
	if (c->suppressed < UINT32_MAX)
		c->suppressed++;
	return true;
}

void
log_limited(struct log_class *c, uint32_t per_second, enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (!log_silent(c, per_second, level)) {
		c->used++;
		va_start(ap, fmt);
		record(level, c->suppressed, 0, NULL, fmt, ap);
		va_end(ap);
		c->suppressed = 0;
	}
	errno = saved;
}

/* The sink refuses others, so that a taken-over process cannot write over `message` or `level`. */
static const char *const field_keys[] = {
	"event",
	"session",
	"reason",
	"code",
	"user",
	"client",
	"transport",
	"relay",
	"peer",
	"lifetime",
	"seconds",
	"up_bytes",
	"up_packets",
	"down_bytes",
	"down_packets",
	"meaning",
	"listener",
	"prefix",
};

int
log_field_key(const char *key, size_t len)
{
	for (unsigned i = 0; i < TP_COUNT(field_keys); i++)
		if (strlen(field_keys[i]) == len && memcmp(field_keys[i], key, len) == 0)
			return (int)i;
	return -1;
}

void
log_field(struct log_fields *f, const char *key, const char *value)
{
	char text[256];
	int n;

	if (log_field_key(key, strlen(key)) < 0)
		return;
	text_escape(text, sizeof text, value, strlen(value));
	n = snprintf(f->bytes + f->len, sizeof f->bytes - f->len, "%s=%s", key, text);
	if (n > 0 && (size_t)n < sizeof f->bytes - f->len)
		f->len = (uint16_t)(f->len + n + 1);
}

void
log_with(enum log_level level, uint32_t suppressed, const struct log_fields *f, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (level <= logger.level) {
		va_start(ap, fmt);
		record(level, suppressed, 0, f, fmt, ap);
		va_end(ap);
	}
	errno = saved;
}

void
fatal(int code, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	record(LOG_L_ERROR, 0, saved, NULL, fmt, ap);
	va_end(ap);
	exit(code);
}
