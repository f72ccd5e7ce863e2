noinst_LIBRARIES += %D%/libtp_super.a
%C%_libtp_super_a_SOURCES = %D%/super_int.h %D%/successor.c %D%/held.c %D%/waiting.c %D%/waiting.h \
	%D%/addresses.c %D%/bind.c %D%/caps.c %D%/carry.c %D%/carry.h %D%/carry_load.c %D%/carry_stats.c %D%/children.c %D%/confchild.c %D%/super_control.c %D%/daemon.c %D%/dispatch.c %D%/launch.c \
	%D%/ledger.c %D%/listeners.c %D%/notify.c %D%/pidfile.c %D%/poison.c %D%/pool.c %D%/pool.h %D%/child_death.c %D%/resume.c %D%/regions.c %D%/reload.c \
	%D%/roll.c %D%/stand_by.c %D%/conf_rows.c %D%/spawn.c %D%/stop.c %D%/summary.c %D%/super.c %D%/upgrade.c %D%/cert_watch.c %D%/external_watch.c %D%/renew.c %D%/row_close.c %D%/memory_limit.c %D%/start_message.c
%C%_libtp_super_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
