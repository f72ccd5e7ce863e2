noinst_LIBRARIES += %D%/libtp_super.a
%C%_libtp_super_a_SOURCES = %D%/super_int.h \
	%D%/addresses.c %D%/bind.c %D%/caps.c %D%/carry.c %D%/carry.h %D%/carry_load.c %D%/carry_stats.c %D%/children.c %D%/confchild.c %D%/control.c %D%/daemon.c %D%/dispatch.c %D%/launch.c \
	%D%/ledger.c %D%/listeners.c %D%/notify.c %D%/pidfile.c %D%/poison.c %D%/pool.c %D%/recover.c %D%/resume.c %D%/regions.c %D%/reload.c \
	%D%/roll.c %D%/rows.c %D%/spawn.c %D%/stop.c %D%/summary.c %D%/super.c %D%/upgrade.c %D%/watch.c %D%/tell.c
%C%_libtp_super_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
