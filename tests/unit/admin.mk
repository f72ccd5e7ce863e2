# unit tests of ctl
EXTRA_DIST += %D%/check_admin.c %D%/check_admin.h %D%/check_admin_openmetrics.c %D%/check_admin_play.c \
	%D%/check_admin_intake.c %D%/check_admin_stage.c %D%/check_admin_stage.h
if HAVE_CHECK
if HAVE_MHD
check_PROGRAMS += %D%/check_admin
TESTS += %D%/check_admin
%C%_check_admin_SOURCES = %D%/check_admin.c %D%/check_admin.h %D%/check_admin_openmetrics.c %D%/check_admin_play.c \
	%D%/check_admin_intake.c %D%/check_admin_stage.c %D%/check_admin_stage.h
%C%_check_admin_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) $(JANSSON_CFLAGS) $(SODIUM_CFLAGS)
%C%_check_admin_LDADD = src/admin/libtp_admin.a src/authd/libtp_authd.a src/auth/libtp_auth.a src/state/libtp_state.a \
	src/stun/libtp_stun.a src/conf/libtp_conf.a src/shm/libtp_shm.a src/io/libtp_io.a src/base/libtp_base.a \
	$(CHECK_LIBS) $(JANSSON_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
endif
