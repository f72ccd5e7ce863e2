/* SPDX-License-Identifier: BSD-3-Clause */
/* load_report.c: what happened, as text or as one JSON object made of the same numbers. */
#include "config.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "load_int.h"

#define LOSS_MAX    0.001
#define FLOWS_SHOWN 5

static const char *
error_name(unsigned e)
{
	switch (e) {
	case 0:
		return "strange answer";
	case ERROR_TIMEOUT:
		return "no answer";
	case ERROR_SOCKET:
		return "socket error";
	case ERROR_CONNECT:
		return "not connected";
	case ERROR_HANDSHAKE:
		return "handshake failed";
	case ERROR_CLOSED:
		return "connection closed";
	default:
		return stun_error_phrase(e);
	}
}

struct sums {
	uint64_t sent, got, lost, duplicate, reordered, damaged, misdelivered;
};
static const char *const dir_name[2] = { "up", "down" };
static const char *const mode_name[] = { "relay", "hold", "setup", "host", "connect" };
static const char *const transport_name[] = { "udp", "tcp", "tls", "dtls" };
static const char *const direction_name[] = { "", "up", "down", "both", "echo" };

static bool
shown(const struct load_options *o)
{
	return !o->quiet && !o->json && isatty(STDERR_FILENO);
}

/* Totals, and the rates since the last look. */
void
report_progress(const struct load_options *o, const struct worker *w, const char *what, struct progress *p)
{
	struct progress now = { .began = p->began, .at = now_ns() };
	uint64_t failed = 0;
	double span;

	if (!shown(o))
		return;
	for (unsigned i = 0; i < o->threads; i++) {
		now.sent += w[i].sent[UP] + w[i].sent[DOWN];
		now.got += w[i].got[UP] + w[i].got[DOWN];
		now.ready += w[i].ready;
		failed += w[i].failed;
	}
	span = (double)(now.at - (p->at != 0 ? p->at : p->began)) / 1e9;
	fprintf(stderr, "\r\033[K%s %.1f s: %llu ready", what, (double)(now.at - now.began) / 1e9,
	    (unsigned long long)now.ready);
	if (now.sent == 0)
		fprintf(stderr, " (%.0f/s)", (double)(now.ready - p->ready) / span);
	fprintf(stderr, ", %llu failed", (unsigned long long)failed);
	if (now.sent > 0)
		fprintf(stderr, ", %llu sent (%.0f/s), %llu relayed (%.0f/s)", (unsigned long long)now.sent,
		    (double)(now.sent - p->sent) / span, (unsigned long long)now.got,
		    (double)(now.got - p->got) / span);
	*p = now;
}

void
report_progress_end(const struct load_options *o)
{
	if (shown(o))
		fputs("\r\033[K", stderr);
}

static void
add_side(struct sums *s, const struct side *d)
{
	s->sent += d->sent;
	s->got += d->got;
	s->lost += side_lost(d);
	s->duplicate += d->duplicate;
	s->reordered += d->reordered;
	s->damaged += d->damaged;
	s->misdelivered += d->misdelivered;
}

static void
add_flow(struct sums *s, const struct flow *f, unsigned d)
{
	add_side(s, &f->side[d]);
	if (d == UP)
		s->misdelivered += f->astray;
}

static bool
wrong(const struct flow *f)
{
	uint64_t n = f->astray;

	for (const struct side *d = f->side; d < f->side + 2; d++)
		n += side_lost(d) + d->duplicate + d->reordered + d->damaged + d->misdelivered;
	return n != 0;
}

/* Longest silence, the one that still lasts at the end included. */
static uint64_t
longest(const struct report *r, const struct side *d)
{
	uint64_t tail = d->sent > 0 && r->ended_ns > d->last ? r->ended_ns - d->last : 0;

	return d->gap > tail ? d->gap : tail;
}

static bool
carried(const struct report *r, const struct flow *f)
{
	return f->ready_at != 0 && r->ended_ns != 0 && f->side[UP].sent + f->side[DOWN].sent > 0;
}

static bool
side_stopped(const struct report *r, const struct side *d)
{
	return d->sent > 0 && (d->got == 0 || (double)(r->ended_ns - d->last) / 1e9 > r->o->stopped_after);
}

static bool
cut_off(const struct report *r, const struct flow *f)
{
	return f->closed && f->closed_at <= r->ended_ns;
}

/* At the end of the step, before the drain: an arrival later than `ended` is not silence. */
static bool
stopped(const struct report *r, const struct flow *f)
{
	if (r->ended_ns != 0 && cut_off(r, f))
		return true;
	return carried(r, f) &&
	    ((r->ended_ns > f->side[UP].last && side_stopped(r, &f->side[UP])) ||
		(r->ended_ns > f->side[DOWN].last && side_stopped(r, &f->side[DOWN])));
}

static json_t *
sums_json(const struct sums *s)
{
	return json_pack("{s:I s:I s:I s:I s:I s:I s:I}", "sent", (json_int_t)s->sent, "delivered",
	    (json_int_t)s->got, "lost", (json_int_t)s->lost, "duplicated", (json_int_t)s->duplicate,
	    "reordered", (json_int_t)s->reordered, "damaged", (json_int_t)s->damaged, "misdelivered",
	    (json_int_t)s->misdelivered);
}

static json_t *
latency_json(const struct hist *h)
{
	return json_pack("{s:I s:f s:f s:f s:f}", "count", (json_int_t)h->count, "p50_us",
	    (double)hist_at(h, 0.5) / 1e3, "p99_us", (double)hist_at(h, 0.99) / 1e3, "p999_us",
	    (double)hist_at(h, 0.999) / 1e3, "max_us", (double)h->max / 1e3);
}

static json_t *
flow_json(const struct report *r, const struct flow *f)
{
	char relayed[ADDR_STRLEN];
	json_t *j = json_pack("{s:I s:s s:b s:i}", "flow", (json_int_t)f->id, "relayed",
	    f->relayed.family != ADDR_NONE ? addr_print(&f->relayed, relayed) : "", "stopped",
	    stopped(r, f), "error", (int)f->error);

	if (cut_off(r, f))
		json_object_set_new(
		    j, "closed_s", json_real(((double)f->closed_at - (double)r->started_ns) / 1e9));
	for (unsigned d = 0; d < 2; d++) {
		struct sums s = { 0 };
		json_t *side;

		add_flow(&s, f, d);
		if (s.sent + s.damaged + s.misdelivered == 0)
			continue;
		side = sums_json(&s);
		json_object_set_new(
		    side, "longest_gap_ms", json_real((double)longest(r, &f->side[d]) / 1e6));
		if (f->side[d].got > 0)
			json_object_set_new(side, "last_s",
			    json_real(((double)f->side[d].last - (double)r->started_ns) / 1e9));
		json_object_set_new(j, dir_name[d], side);
	}
	return j;
}

static json_t *
steps_json(const struct report *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < r->step_count; i++) {
		const struct step_result *s = &r->steps[i];

		json_array_append_new(list,
		    json_pack("{s:f s:f s:I s:I s:f s:f s:f s:f s:f s:b}", "rate", s->rate_asked, "seconds",
			s->seconds, "sent", (json_int_t)s->sent, "delivered", (json_int_t)s->got,
			"sent_pps", s->sent_pps, "delivered_pps", s->got_pps, "loss", s->loss,
			"server_cpu_us", s->cpu_us, "load_cpu_us", s->self_us, "load_limited",
			s->load_limited));
	}
	return list;
}

static double
best_rate(const struct report *r)
{
	double best = 0;

	for (unsigned i = 0; i < r->step_count; i++)
		if (r->steps[i].loss < LOSS_MAX && !r->steps[i].load_limited &&
		    r->steps[i].rate_asked > best)
			best = r->steps[i].rate_asked;
	return best;
}

struct all {
	struct sums side[2];
	struct hist hist[2], setup, connect;
	const char *cipher, *why;
	uint64_t ready, failed, foreign, unsent, strange, stalls, again, refresh_lost, stopped, rounds, gap;
	uint64_t errors[ERRORS_MAX];
};

static void
gather_flow(const struct report *r, const struct flow *f, struct all *a)
{
	for (unsigned d = 0; d < 2; d++) {
		uint64_t gap = carried(r, f) ? longest(r, &f->side[d]) : 0;

		add_flow(&a->side[d], f, d);
		a->gap = gap > a->gap ? gap : a->gap;
	}
	a->stopped += stopped(r, f);
}

static void
gather(const struct report *r, struct all *a)
{
	for (unsigned i = 0; i < r->o->threads; i++) {
		const struct worker *w = &r->workers[i];

		a->ready += w->ready;
		a->failed += w->failed;
		a->foreign += w->foreign;
		a->unsent += w->unsent;
		a->strange += w->strange;
		a->stalls += w->stalls;
		a->again += w->send_again;
		a->refresh_lost += w->refresh_lost;
		a->rounds += w->rounds;
		for (unsigned e = 0; e < ERRORS_MAX; e++)
			a->errors[e] += w->errors[e];
		for (unsigned d = 0; d < 2; d++)
			hist_merge(&a->hist[d], &w->hist[d]);
		hist_merge(&a->setup, &w->setup_hist);
		hist_merge(&a->connect, &w->connect_hist);
		a->cipher = a->cipher == NULL && w->cipher[0] != '\0' ? w->cipher : a->cipher;
		a->why = a->why == NULL && w->why[0] != '\0' ? w->why : a->why;
		for (unsigned k = 0; k < w->n; k++)
			gather_flow(r, &w->flows[k], a);
	}
}

static json_t *
setup_json(const struct report *r, const struct all *a)
{
	json_t *errors = json_object(), *j;
	char code[16];

	for (unsigned e = 0; e < ERRORS_MAX; e++) {
		if (a->errors[e] == 0)
			continue;
		snprintf(code, sizeof code, "%u", e);
		json_object_set_new(errors, code, json_integer((json_int_t)a->errors[e]));
	}
	j = json_pack("{s:I s:I s:f s:f s:o}", "ready", (json_int_t)a->ready, "failed",
	    (json_int_t)a->failed, "seconds", r->setup_s, "per_second",
	    r->setup_s > 0 ? (double)a->ready / r->setup_s : 0, "errors", errors);
	json_object_set_new(j, "latency", latency_json(&a->setup));
	if (a->ready > 0) {
		json_object_set_new(j, "server_cpu_us", json_real(r->setup_cpu_us / (double)a->ready));
		json_object_set_new(j, "load_cpu_us", json_real(r->setup_self_us / (double)a->ready));
	}
	return j;
}

/* NULL where there is no connection to speak of. */
static json_t *
connections_json(const struct report *r, const struct all *a)
{
	json_t *j = json_pack("{s:I s:f s:o}", "made", (json_int_t)a->connect.count, "per_second",
	    r->setup_s > 0 ? (double)a->connect.count / r->setup_s : 0, "latency",
	    latency_json(&a->connect));

	if (a->cipher != NULL)
		json_object_set_new(j, "cipher", json_string(a->cipher));
	if (a->why != NULL)
		json_object_set_new(j, "first_failure", json_string(a->why));
	return j;
}

static void
print_json(const struct report *r, const struct all *a)
{
	const struct load_options *o = r->o;
	json_t *flows = json_array(), *j;

	j = json_pack("{s:s s:s s:b s:i s:i s:i s:i s:o s:o}", "mode", mode_name[o->mode], "direction",
	    direction_name[o->direction], "indications", o->indications, "allocations", (int)o->flows,
	    "payload", (int)o->payload, "run", (int)o->run, "server_processes", (int)r->processes, "setup",
	    setup_json(r, a), "steps", steps_json(r));
	json_object_set_new(j, "transport", json_string(transport_name[o->transport]));
	if (o->transport != LOAD_UDP)
		json_object_set_new(j, "connections", connections_json(r, a));
	for (unsigned d = 0; d < 2; d++) {
		json_t *side = sums_json(&a->side[d]);

		json_object_set_new(side, "latency", latency_json(&a->hist[d]));
		json_object_set_new(j, dir_name[d], side);
	}
	json_object_set_new(j, "other",
	    json_pack("{s:I s:I s:I s:I s:I s:I}", "foreign", (json_int_t)a->foreign, "strange_source",
		(json_int_t)a->strange, "unsent", (json_int_t)a->unsent, "send_waits", (json_int_t)a->again,
		"window_stalls", (json_int_t)a->stalls, "refreshes_lost", (json_int_t)a->refresh_lost));
	if (o->ladder[2] > 0)
		json_object_set_new(j, "best_rate", json_real(best_rate(r)));
	if (o->mode == LOAD_HOLD) {
		json_object_set_new(j, "stopped", json_integer((json_int_t)a->stopped));
		json_object_set_new(j, "longest_gap_ms", json_real((double)a->gap / 1e6));
	}
	for (unsigned i = 0; i < o->threads; i++)
		for (unsigned k = 0; k < r->workers[i].n; k++) {
			const struct flow *f = &r->workers[i].flows[k];

			if (o->per_flow || wrong(f) || stopped(r, f))
				json_array_append_new(flows, flow_json(r, f));
		}
	json_object_set_new(j, "flows", flows);
	json_dumpf(j, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(j);
}

static void
print_setup(const struct report *r, const struct all *a)
{
	if (r->o->transport != LOAD_UDP) {
		printf("%-9s %llu made, %.0f a second; p50 %.0f us, p99 %.0f us",
		    transport_name[r->o->transport], (unsigned long long)a->connect.count,
		    (double)a->connect.count / r->setup_s, (double)hist_at(&a->connect, 0.5) / 1e3,
		    (double)hist_at(&a->connect, 0.99) / 1e3);
		printf("%s%s%s%s\n", a->cipher != NULL ? "; " : "", a->cipher != NULL ? a->cipher : "",
		    a->why != NULL ? "; first failure: " : "", a->why != NULL ? a->why : "");
	}
	printf(
	    "%-9s %llu ready, %llu failed in %.3f s: %.0f a second; %.1f us server CPU, %.1f us own CPU each; p50 %.0f us,"
	    " p99 %.0f us\n",
	    r->o->mode == LOAD_CONNECT ? "answered" : "set-up", (unsigned long long)a->ready,
	    (unsigned long long)a->failed, r->setup_s, (double)a->ready / r->setup_s,
	    a->ready > 0 ? r->setup_cpu_us / (double)a->ready : 0,
	    a->ready > 0 ? r->setup_self_us / (double)a->ready : 0, (double)hist_at(&a->setup, 0.5) / 1e3,
	    (double)hist_at(&a->setup, 0.99) / 1e3);
	for (unsigned e = 0; e < ERRORS_MAX; e++)
		if (a->errors[e] > 0)
			printf("          %llu x %s (%u)%s\n", (unsigned long long)a->errors[e],
			    error_name(e), e,
			    e == STUN_E_UNAUTHENTICATED && r->o->user[0] + r->o->secret[0] == '\0'
				? ": no --user was given"
				: "");
}

static void
print_steps(const struct report *r)
{
	for (unsigned i = 0; i < r->step_count; i++) {
		const struct step_result *s = &r->steps[i];

		if (s->rate_asked > 0)
			printf("rate %-9.0f", s->rate_asked);
		else
			printf("closed loop ");
		printf(" %.0f sent, %.0f relayed a second, loss %.4f %%; own CPU %.2f us a packet",
		    s->sent_pps, s->got_pps, s->loss * 100, s->self_us);
		if (r->o->pid_count > 0)
			printf(", server CPU %.2f us (%u processes)", s->cpu_us, r->processes);
		puts(s->load_limited ? "; the load could not keep up" : "");
	}
	if (r->o->ladder[2] > 0)
		printf(
		    "best      %.0f a second with less than %.1f %% loss\n", best_rate(r), LOSS_MAX * 100);
}

static void
print_side(const struct sums *s, const struct hist *h, const char *name, bool round_trip)
{
	if (s->sent == 0 && s->damaged + s->misdelivered == 0)
		return;
	printf(
	    "%-9s sent %llu, delivered %llu, lost %llu, duplicated %llu, reordered %llu, damaged %llu, misdelivered %llu\n",
	    name, (unsigned long long)s->sent, (unsigned long long)s->got, (unsigned long long)s->lost,
	    (unsigned long long)s->duplicate, (unsigned long long)s->reordered,
	    (unsigned long long)s->damaged, (unsigned long long)s->misdelivered);
	printf("          %s p50 %.0f us, p99 %.0f us, p99.9 %.0f us, longest %.0f us\n",
	    round_trip ? "round trip" : "one way", (double)hist_at(h, 0.5) / 1e3,
	    (double)hist_at(h, 0.99) / 1e3, (double)hist_at(h, 0.999) / 1e3, (double)h->max / 1e3);
}

static void
print_flow(const struct report *r, const struct flow *f)
{
	char relayed[ADDR_STRLEN];

	printf("flow %-6u %s%s", f->id, addr_print(&f->relayed, relayed), stopped(r, f) ? " STOPPED" : "");
	for (unsigned d = 0; d < 2; d++) {
		const struct side *s = &f->side[d];

		if (s->sent == 0)
			continue;
		printf("; %s %llu of %llu", dir_name[d], (unsigned long long)s->got,
		    (unsigned long long)s->sent);
		if (s->duplicate + s->reordered + s->damaged + s->misdelivered + (d == UP ? f->astray : 0) >
		    0)
			printf(" (%llu dup, %llu reordered, %llu damaged, %llu misdelivered)",
			    (unsigned long long)s->duplicate, (unsigned long long)s->reordered,
			    (unsigned long long)s->damaged,
			    (unsigned long long)(s->misdelivered + (d == UP ? f->astray : 0)));
		printf(", gap %.1f ms", (double)longest(r, s) / 1e6);
		if (stopped(r, f) && s->got > 0)
			printf(", last at %.3f s", ((double)s->last - (double)r->started_ns) / 1e9);
	}
	if (cut_off(r, f))
		printf(
		    "; connection closed at %.3f s", ((double)f->closed_at - (double)r->started_ns) / 1e9);
	putchar('\n');
}

static void
print_flows(const struct report *r, const struct all *a)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->o->threads; i++)
		for (unsigned k = 0; k < r->workers[i].n; k++) {
			const struct flow *f = &r->workers[i].flows[k];
			/* What stopped is the answer that hold is asked for: it is never cut short. */
			if (r->o->per_flow || stopped(r, f) || (wrong(f) && n++ < FLOWS_SHOWN))
				print_flow(r, f);
		}
	if (n > FLOWS_SHOWN && !r->o->per_flow)
		printf("          and %u more flows (--per-flow shows all)\n", n - FLOWS_SHOWN);
	if (r->o->mode == LOAD_HOLD)
		printf("hold      %llu of %llu sessions stopped relaying, longest gap %.1f ms\n",
		    (unsigned long long)a->stopped, (unsigned long long)a->ready, (double)a->gap / 1e6);
}

static void
print_text(const struct report *r, const struct all *a)
{
	print_setup(r, a);
	if (r->o->mode == LOAD_SETUP || r->o->mode == LOAD_CONNECT)
		return;
	print_steps(r);
	for (unsigned d = 0; d < 2; d++)
		print_side(
		    &a->side[d], &a->hist[d], dir_name[d], d == DOWN && r->o->direction == LOAD_ECHO);
	if (a->foreign + a->strange + a->unsent + a->again + a->stalls + a->refresh_lost > 0)
		printf(
		    "also      %llu of another run, %llu from a strange source, %llu not sent, %llu waits for the send queue, "
		    "%llu window stalls, %llu refreshes lost\n",
		    (unsigned long long)a->foreign, (unsigned long long)a->strange,
		    (unsigned long long)a->unsent, (unsigned long long)a->again,
		    (unsigned long long)a->stalls, (unsigned long long)a->refresh_lost);
	print_flows(r, a);
}

int
report_print(const struct report *r)
{
	struct all *a = calloc(1, sizeof *a);
	int status;

	if (a == NULL)
		fatal(EX_OSERR, "no memory");
	gather(r, a);
	if (r->o->json)
		print_json(r, a);
	else
		print_text(r, a);
	status = a->failed > 0 || a->ready == 0 || a->stopped > 0;
	for (unsigned d = 0; d < 2; d++)
		status |= a->side[d].damaged + a->side[d].misdelivered > 0;
	free(a);
	return status;
}
