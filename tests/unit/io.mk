# unit tests of io
if HAVE_CHECK
check_PROGRAMS += %D%/check_io
TESTS += %D%/check_io
%C%_check_io_SOURCES = %D%/check_io.c %D%/check_io.h %D%/check_io_ipc.c %D%/check_io_loop.c %D%/check_io_sock.c \
	%D%/check_io_udp.c %D%/check_io_sandbox.c
%C%_check_io_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_io_LDADD = src/io/libtp_io.a src/base/libtp_base.a $(CHECK_LIBS)
endif
