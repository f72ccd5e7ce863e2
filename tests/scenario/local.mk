# scenario tests: scripts in virtual time against the TURN core (see README there)
scenario_headers = %D%/world.h %D%/client.h %D%/script.h
check_PROGRAMS += %D%/run
%C%_run_SOURCES = %D%/run.c %D%/expect.c %D%/client.c %D%/world.c $(scenario_headers)
%C%_run_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(SODIUM_CFLAGS)
%C%_run_LDADD = src/turn/libtp_turn.a src/auth/libtp_auth.a src/state/libtp_state.a src/shm/libtp_shm.a \
	src/stun/libtp_stun.a src/base/libtp_base.a $(SODIUM_LIBS) $(CRYPTO_LIBS)
TESTS += %D%/run.sh
EXTRA_DIST += %D%/run.sh %D%/README %D%/tp
