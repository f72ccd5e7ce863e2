# unit tests of state
if HAVE_CHECK
check_PROGRAMS += %D%/check_state
TESTS += %D%/check_state
%C%_check_state_SOURCES = %D%/check_state.c %D%/check_state.h %D%/check_state_session.c %D%/check_state_perm.c \
	%D%/check_state_cross.c %D%/check_state_rate.c %D%/check_state_conn.c
%C%_check_state_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/src/state
%C%_check_state_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_state_LDADD = src/state/libtp_state.a src/shm/libtp_shm.a src/base/libtp_base.a $(CHECK_LIBS) $(SODIUM_LIBS)
endif
