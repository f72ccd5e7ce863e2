# crash: programs with their own compilation of the rooms, crash points always in
check_PROGRAMS += %D%/crash_state
# `make check` dies at each marked point ten times, `make check-crash` 100 times.
TP_CRASH = %D%/crash_state
TESTS += $(TP_CRASH)
.PHONY: check-crash
check-crash: all
	TP_POINTS=100 TP_KILLS=1000 $(MAKE) check TESTS='$(TP_CRASH)'
%C%_crash_state_SOURCES = %D%/crash_state.c %D%/crash_world.c %D%/crash_script.c %D%/crash_deaths.c %D%/crash_kills.c %D%/crash_evil.c \
	%D%/crash.h src/state/state_int.h \
	src/shm/region.c src/shm/lock.c src/shm/crash.c \
	src/state/shard.c src/state/adopt.c src/state/index.c src/state/session.c src/state/block.c \
	src/state/perm.c src/state/chan.c src/state/peers.c src/state/account.c src/state/cross.c src/state/token.c \
	src/state/rate.c src/state/conn.c src/state/conn_adopt.c src/state/ring.c src/state/bandwidth.c src/state/recover.c src/state/audit.c src/state/audit_cross.c
%C%_crash_state_CPPFLAGS = $(AM_CPPFLAGS) -DTP_CRASH_POINTS=1 -I$(top_srcdir)/src/state
%C%_crash_state_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
%C%_crash_state_LDADD = src/base/libtp_base.a $(SODIUM_LIBS)
