# unit tests of ctl
EXTRA_DIST += %D%/check_ctl.c %D%/check_ctl.h %D%/check_ctl_openmetrics.c %D%/check_ctl_play.c \
	%D%/check_ctl_stage.c %D%/check_ctl_stage.h
if HAVE_CHECK
if HAVE_MHD
check_PROGRAMS += %D%/check_ctl
TESTS += %D%/check_ctl
%C%_check_ctl_SOURCES = %D%/check_ctl.c %D%/check_ctl.h %D%/check_ctl_openmetrics.c %D%/check_ctl_play.c \
	%D%/check_ctl_stage.c %D%/check_ctl_stage.h
%C%_check_ctl_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) $(JANSSON_CFLAGS) $(SODIUM_CFLAGS)
%C%_check_ctl_LDADD = src/ctl/libtp_ctl.a src/keep/libtp_keep.a src/auth/libtp_auth.a src/state/libtp_state.a \
	src/stun/libtp_stun.a src/conf/libtp_conf.a src/shm/libtp_shm.a src/io/libtp_io.a src/base/libtp_base.a \
	$(CHECK_LIBS) $(JANSSON_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
endif
