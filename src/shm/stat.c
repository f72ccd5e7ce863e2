/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stat.c: the counters of one process and the tables that describe them.
 */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tp/shm.h"

#define KIND_C 'C'
#define KIND_G 'G'
#define KIND_H 'H'
const struct stat_row stat_rows[STAT_COUNTERS] = {
#define COUNTER(name, metric, labels, kind, help) { #name, metric, labels, help, KIND_##kind },
#include "tp/tbl/counters.def"
#undef COUNTER
#define REASON(name, word, text, help)                                                                     \
	{ "REASON_" #name, "refusals", "reason=\"" word "\"",                                              \
		"Requests that were refused and allocations that ended, by reason", KIND_C },
#include "tp/tbl/reasons.def"
#undef REASON
/* Rows of macros. */
/* clang-format off */
#define HELP_ERRORS "Error responses sent, by method and code"
#define ERROR_ROW(number, method)                                                                          \
	{ "ERROR_" #number "_" method, "error_responses", "method=\"" method "\",code=\"" #number "\"",    \
		HELP_ERRORS, KIND_C },
#define ERROR(number, name, phrase, help)                                                                  \
	ERROR_ROW(number, "Binding")                                                                       \
	ERROR_ROW(number, "Allocate")                                                                      \
	ERROR_ROW(number, "Refresh")                                                                       \
	ERROR_ROW(number, "CreatePermission")                                                              \
	ERROR_ROW(number, "ChannelBind")
#include "tp/tbl/errors.def"
#undef ERROR
/* Names for the hand-over of an upgrade; the metrics of spread_rows say the rest. */
#define H(name, n) { "H_" #name "_" #n, "", "", "", KIND_H },
#define HIST(name, metric, labels, unit, help)                                                             \
	H(name, 0)                                                                                         \
	H(name, 1) H(name, 2) H(name, 3) H(name, 4) H(name, 5) H(name, 6) H(name, 7) H(name, 8) H(name, 9) \
	    H(name, 10) H(name, 11) H(name, 12) H(name, SUM)
/* clang-format on */
#include "tp/tbl/histograms.def"
#undef HIST
};

const struct spread_row spread_rows[SPREADS] = {
#define HIST(name, metric, labels, unit, help) { metric, labels, help, STAT_UNIT_##unit, STAT_H_##name },
#include "tp/tbl/histograms.def"
#undef HIST
};
const uint32_t stat_bounds[2][STAT_H_BUCKETS - 1] = {
	[STAT_UNIT_MS] = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 3000, 10000 },
	[STAT_UNIT_S] = { 1, 5, 15, 60, 180, 600, 1200, 1800, 3600, 7200, 14400, 43200 },
};

const struct reason_row reason_rows[REASONS] = {
#define REASON(name, word, text, help) { #name, word, text, help },
#include "tp/tbl/reasons.def"
#undef REASON
};

const struct drop_row drop_rows[DROPS] = {
#define DROP(name, label, help) { #name, label, help },
#include "tp/tbl/drops.def"
#undef DROP
};

static const uint16_t error_codes[] = {
#define ERROR(number, name, phrase, help) number,
#include "tp/tbl/errors.def"
#undef ERROR
};
_Static_assert(TP_COUNT(error_codes) <= STAT_ERROR_CODES, "more error codes than rows in struct stats");

const struct stat_hist stat_hists[STAT_HISTS] = {
	{ "receive_batch_size", "Buffers filled per receiving call on listeners",
	    offsetof(struct stats, rx_batch) },
	{ "send_batch_size", "Messages per sending call", offsetof(struct stats, tx_batch) },
	{ "receive_segments", "Datagrams per buffer received (GRO)", offsetof(struct stats, gro_batch) },
	{ "send_segments", "Datagrams per message sent (GSO)", offsetof(struct stats, gso_batch) },
};

int
stat_error_row(unsigned code)
{
	for (size_t i = 0; i < TP_COUNT(error_codes); i++)
		if (error_codes[i] == code)
			return (int)i;
	return -1;
}

void
stat_error(struct stats *s, enum stat_method m, unsigned code)
{
	int row = stat_error_row(code);

	if (row < 0)
		return;
	atomic_store_explicit((_Atomic uint64_t *)&s->error[row], s->error[row] + 1, memory_order_relaxed);
	stat_add(s, (enum stat_counter)(STAT_ERROR_300 + (unsigned)row * STAT_METHODS + (unsigned)m), 1);
}

void
stat_observe(struct stats *s, enum stat_spread d, uint64_t value)
{
	const struct spread_row *r = &spread_rows[d];
	unsigned b = 0;

	while (b < STAT_H_BUCKETS - 1 && value > stat_bounds[r->unit][b])
		b++;
	stat_add(s, (enum stat_counter)(r->first + b), 1);
	stat_add(s, (enum stat_counter)(r->first + STAT_H_BUCKETS), value);
}

unsigned
stat_batch_bucket(unsigned n)
{
	unsigned bucket = 0;

	while (bucket < STAT_BATCH_BUCKETS - 1 && n > 1u << bucket)
		bucket++;
	return bucket;
}

void
stat_init(struct stats *s, unsigned role, unsigned index, uint32_t generation, tp_ms now)
{
	s->magic = STAT_MAGIC;
	s->layout = STAT_LAYOUT;
	s->role = role;
	s->index = index;
	s->generation = generation;
	s->pid = (int32_t)getpid();
	s->started_ms = now;
	s->state = 0;
	s->ready = 0;
	atomic_store_explicit(&s->heartbeat_ms, now, memory_order_relaxed);
	memset(s->words, 0, sizeof s->words);
	memset(&s->busy, 0, sizeof s->busy);
	s->busy.slot = UINT32_MAX;
}

void
stat_words(struct stats *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->words, sizeof s->words, fmt, ap);
	va_end(ap);
}

int
stat_usage_open(void)
{
	return open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
}

void
stat_usage(struct stats *s, int fd)
{
	struct timespec used;
	char text[128], *resident;
	ssize_t n = fd >= 0 ? pread(fd, text, sizeof text - 1, 0) : -1;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0)
		s->counter[STAT_CPU_MS] = (uint64_t)used.tv_sec * 1000 + (uint64_t)used.tv_nsec / 1000000;
	if (n <= 0)
		return;
	text[n] = '\0';
	resident = strchr(text, ' ');
	if (resident != NULL)
		s->counter[STAT_MEMORY] = strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}
