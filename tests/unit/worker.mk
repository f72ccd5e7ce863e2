# unit tests of worker: the real program, with the test as its supervisor, authd, client and peer
if HAVE_CHECK
check_PROGRAMS += %D%/check_worker
TESTS += %D%/check_worker
%C%_check_worker_SOURCES = %D%/check_worker.c %D%/check_worker.h %D%/check_worker_assoc.c %D%/worker_super.c %D%/worker_client.c
%C%_check_worker_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_worker_LDADD = src/seal/libtp_seal.a src/state/libtp_state.a src/stun/libtp_stun.a src/conf/libtp_conf.a src/shm/libtp_shm.a \
	src/io/libtp_io.a src/base/libtp_base.a $(CHECK_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
%C%_check_worker_DEPENDENCIES = src/prog/turnpike-worker$(EXEEXT)
check_PROGRAMS += %D%/check_relay_state
TESTS += %D%/check_relay_state
%C%_check_relay_state_SOURCES = %D%/check_relay_state.c
%C%_check_relay_state_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) $(SODIUM_CFLAGS)
%C%_check_relay_state_LDADD = src/worker/libtp_worker.a src/state/libtp_state.a src/io/libtp_io.a src/shm/libtp_shm.a \
	src/base/libtp_base.a $(CHECK_LIBS) $(SODIUM_LIBS)
endif
