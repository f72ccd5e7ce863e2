/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_worker.h: a supervisor and turnpike-auth for one worker, and a client; all in the test's process.
 */
#ifndef CHECK_WORKER_H
#define CHECK_WORKER_H

#include <check.h>
#include <sys/types.h>

#include "tp/auth.h"
#include "tp/conf.h"
#include "tp/io.h"
#include "tp/msg.h"
#include "tp/seal.h"
#include "tp/shm.h"
#include "tp/state.h"
#include "tp/stun.h"

#define REALM    "example.org"
#define USER     "alice"
#define PASSWORD "wonderland"
#define BASE     200 /* the window of descriptor numbers */
#define SPAN     400
#define SLOT_MAX 256

/* worker_super.c */
struct world {
	int region[2], keys[2], cross[2], secret[2], stat[2], ports[2], conf, epoll, listener;
	struct addr server;
	uint32_t generation;
	pid_t pid;
	int control, authd, authd_child, log, log_child, tlsd, tlsd_child;
	unsigned acks, strays; /* what turnpike-tls got: HS_ACK, datagrams */
	uint64_t hello;        /* name of the last hello that it got */
	uint64_t acked;        /* number of the last */
	struct stats *stats;
	bool kept[SPAN]; /* relay sockets that exist */
	uint16_t port[SPAN];
	uint32_t unreserved; /* the reservation that was given back last */
	unsigned wants, releases, unused, relays, asks;
	bool serve_pool, mute_authd, no_relays;
	int filter; /* what silences resting sockets; -1 none, then none rests */
	struct msg_ready ready;
	struct msg_closed closed;
	bool is_ready, is_closed, wrong_role;
	char lines[8192]; /* of the log */
};
extern struct world world;
void world_make(void);
void world_end(void);
void world_spawn(void); /* starts a worker; returns when it is READY */
int world_wait(void);   /* its wait status */
void world_kill(void);  /* SIGKILL, and reaped */
void world_pump(
    int ms); /* serves its messages for a while, or until the first descriptor of a client is readable */
bool world_pump_until(int fd, int ms); /* true when fd became readable */
void world_tell(void *msg, int fd);
uint64_t world_drops(enum drop d);
void give_relay(uint32_t request); /* a new socket, for the pool (0) or a request */
/* The same with a sibling that is kept back under this id. */
void give_reserved(uint32_t request, uint32_t reservation);
size_t pages_of_shard(void); /* sizes of the mappings */
size_t pages_of_keys(void);

/* worker_client.c */
struct client {
	int fd;
	struct addr addr, relayed;
	char nonce[64];
	size_t nonce_len;
	uint8_t key[STUN_KEY_MAX];
	size_t key_len;
	uint8_t in[2048];
	size_t in_len;
	struct stun_msg msg;   /* of `in`, when it is STUN */
	unsigned code;         /* of an error answer */
	struct seal_ctx *seal; /* over DTLS, with these */
	struct seal keys;
	struct seal_dtls pos;
};
TCase *tcase_assoc(void); /* check_worker_assoc.c */
void client_seal(struct client *c, uint8_t type, const void *p, size_t len);
void client_open(struct client *c);
void client_close(struct client *c);
/* Sends a signed request with one more attribute of each kind that is given; waits for the answer: its
 * class. */
int client_request(
    struct client *c, uint16_t method, const struct addr *peer, uint16_t channel, int lifetime);
void client_allocate(struct client *c);
void client_send(struct client *c, const void *p, size_t len);
bool client_recv(struct client *c); /* into in; parsed when it is STUN */
int peer_open(struct addr *a);
void peer_send(int fd, const struct addr *to, const void *p, size_t len);
ssize_t peer_recv(int fd, void *buf, size_t len, struct addr *from);

#endif
