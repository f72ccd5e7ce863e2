/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stat.c: the counters of one process and the tables that describe them.
 */
#include "config.h"

#include <stdio.h>
#include <unistd.h>

#include "tp/shm.h"

#define KIND_C 'C'
#define KIND_G 'G'
const struct stat_row stat_rows[STAT_COUNTERS] = {
#define COUNTER(name, metric, labels, kind, help) { #name, metric, labels, help, KIND_##kind },
#include "tp/tbl/counters.def"
#undef COUNTER
#define REASON(name, word, text, help) { "REASON_" #name, "refusals", "reason=\"" word "\"", \
	"Requests that were refused and allocations that ended, by reason", KIND_C },
#include "tp/tbl/reasons.def"
#undef REASON
#define HELP_ERRORS "Error responses sent, by method and code"
#define ERROR_ROW(number, method) \
	{ "ERROR_" #number "_" method, "error_responses", "method=\"" method "\",code=\"" #number "\"", HELP_ERRORS, KIND_C },
#define ERROR(number, name, phrase, help) ERROR_ROW(number, "Binding") ERROR_ROW(number, "Allocate") \
	ERROR_ROW(number, "Refresh") ERROR_ROW(number, "CreatePermission") ERROR_ROW(number, "ChannelBind")
#include "tp/tbl/errors.def"
#undef ERROR
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
	{ "receive_batch_size", "Buffers filled per receiving call on listeners", offsetof(struct stats, rx_batch) },
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
	atomic_store_explicit(
	    (_Atomic uint64_t *)&s->error[row], s->error[row] + 1, memory_order_relaxed);
	stat_add(s, (enum stat_counter)(STAT_ERROR_300 + (unsigned)row * STAT_METHODS + (unsigned)m), 1);
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
