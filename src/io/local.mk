# io
noinst_LIBRARIES += %D%/libtp_io.a
%C%_libtp_io_a_SOURCES = \
	%D%/clock.c %D%/io_int.h %D%/ipc.c %D%/loop.c %D%/ipc_msg.c %D%/port_holder.c %D%/sandbox.c %D%/sock.c %D%/syscall_filter.c \
	%D%/udp_err.c %D%/udp_gso.c %D%/udp_ring.c %D%/udp_rx.c %D%/udp_tx.c
