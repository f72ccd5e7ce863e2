/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load.h: the load generator and prober of turnpike-load.
 *
 * It speaks to any TURN server as a client and is the peer as well, in one process, so that every
 * packet's fate is known.  It shares only the codec with the server: its socket code is its own, because
 * it has to be cheaper.
 */
#ifndef TP_LOAD_H
#define TP_LOAD_H

#include "tp/base.h"

enum load_mode { LOAD_RELAY, LOAD_HOLD, LOAD_SETUP, LOAD_HOST, LOAD_CONNECT };
enum load_transport { LOAD_UDP, LOAD_TCP, LOAD_TLS, LOAD_DTLS };
enum load_direction { LOAD_UP = 1, LOAD_DOWN = 2, LOAD_BOTH = 3, LOAD_ECHO = 4 };

#define LOAD_PIDS_MAX 256
#define LOAD_TEXT_MAX 512

struct load_options {
	enum load_mode mode;
	enum load_direction direction;
	enum load_transport transport;
	struct addr server, peer; /* peer: ADDR_NONE means our own address towards the server */
	char user[LOAD_TEXT_MAX], password[LOAD_TEXT_MAX];
	char secret[LOAD_TEXT_MAX]; /* REST: user becomes "expiry:user", password its HMAC */
	char ca[LOAD_TEXT_MAX]; /* file of certificates to verify the server by; "": it is not verified */
	/* SNI, and with `ca` what the certificate must be for; "": the address */
	char server_name[LOAD_TEXT_MAX];
	bool bare; /* no TURN: the hello of tests/bench/forwarder.c */
	bool indications, no_gso, no_gro, json, per_flow, quiet;
	unsigned flows, peers, threads, run, setup_window;
	size_t payload;
	double seconds, warmup, rate; /* rate 0: closed loop */
	double ladder[3];             /* start, stop, step; step 0: none */
	unsigned window, nap_us;
	uint64_t packets;     /* 0: only the time ends a step */
	double stopped_after; /* hold: silent for this long at the end is stopped, seconds */
	double linger;        /* end of a step: what is missing after this silence is lost, seconds */
	unsigned lifetime;
	bool pid_tree;
	int pids[LOAD_PIDS_MAX];
	unsigned pid_count;
};

/* ---- load_options.c ---------------------------------------------------------------------------------- */

/* Ends the process with EX_USAGE and a sentence on stderr when something is wrong. */
void load_options_parse(struct load_options *o, int argc, char **argv);

/* ---- run.c -------------------------------------------------------------------------------------- */

/* 0: everything asked for happened and nothing was damaged, misdelivered or (hold) stopped; otherwise 1. */
int load_run(const struct load_options *o);

#endif
