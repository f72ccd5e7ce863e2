# ctl
noinst_LIBRARIES += %D%/libtp_ctl.a
%C%_libtp_ctl_a_SOURCES = %D%/cmd_credentials.c %D%/cmd_doctor.c %D%/cmd_sessions.c %D%/cmd_status.c %D%/cmd_verify.c %D%/commands.c %D%/hostcounts.c \
	%D%/control.c %D%/ctl_int.h %D%/job.c %D%/line.c %D%/logline.c %D%/metrics.c %D%/steward.c %D%/target.c %D%/view.c
EXTRA_DIST += %D%/http.c %D%/http_none.c
if HAVE_MHD
%C%_libtp_ctl_a_SOURCES += %D%/http.c
else
%C%_libtp_ctl_a_SOURCES += %D%/http_none.c
endif
%C%_libtp_ctl_a_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(MHD_CFLAGS) $(SODIUM_CFLAGS)
