# unit tests of turn
turn_archives = src/turn/libtp_turn.a src/auth/libtp_auth.a src/state/libtp_state.a src/shm/libtp_shm.a \
	src/stun/libtp_stun.a src/base/libtp_base.a
if HAVE_CHECK
check_PROGRAMS += %D%/check_turn
TESTS += %D%/check_turn
%C%_check_turn_SOURCES = %D%/check_turn.c %D%/check_turn.h %D%/check_turn_policy.c
%C%_check_turn_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_turn_LDADD = $(turn_archives) $(CHECK_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
check_PROGRAMS += %D%/policy_print
%C%_policy_print_LDADD = $(turn_archives) $(SODIUM_LIBS) $(CRYPTO_LIBS)
TESTS += %D%/oracle.sh
EXTRA_DIST += %D%/oracle.sh %D%/policy_oracle.py
