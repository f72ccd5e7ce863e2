# admin
noinst_LIBRARIES += %D%/libtp_admin.a
%C%_libtp_admin_a_SOURCES = %D%/cmd_credentials.c %D%/cmd_doctor.c %D%/cmd_limits.c %D%/cmd_sessions.c %D%/cmd_status.c %D%/cmd_verify.c %D%/ctl_commands.c %D%/host_counts.c \
	%D%/ctl_socket.c %D%/admin_int.h %D%/ctl_job.c %D%/ctl_line.c %D%/log_intake.c %D%/log_line.c %D%/metrics.c %D%/metrics_more.c %D%/status_page.c %D%/admin.c %D%/log_target.c %D%/region_view.c %D%/database_view.c %D%/cmd_database.c
EXTRA_DIST += %D%/http.c %D%/http_none.c
if HAVE_MHD
%C%_libtp_admin_a_SOURCES += %D%/http.c
else
%C%_libtp_admin_a_SOURCES += %D%/http_none.c
endif
%C%_libtp_admin_a_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(MHD_CFLAGS) $(SODIUM_CFLAGS)
# The page as a string of C.
EXTRA_DIST += %D%/status_page.html
CLEANFILES += %D%/status_page_text.c
nodist_%C%_libtp_admin_a_SOURCES = %D%/status_page_text.c
%D%/status_page_text.c: $(srcdir)/%D%/status_page.html Makefile
	$(AM_V_GEN)$(MKDIR_P) %D% && { echo 'extern const char status_page[];'; echo 'const char status_page[] ='; \
	$(SED) -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' $(srcdir)/%D%/status_page.html; echo ';'; } >$@.tmp && mv $@.tmp $@
