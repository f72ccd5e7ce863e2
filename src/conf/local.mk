# conf: the table (no libyaml) and the reader (turnpike-conf alone links it)
noinst_LIBRARIES += %D%/libtp_conf.a %D%/libtp_conf_yaml.a
%C%_libtp_conf_a_SOURCES = %D%/cpus.c %D%/hostaddr.c %D%/options.c %D%/listtext.c %D%/diff.c %D%/files_changed.c %D%/dump.c %D%/validate.c %D%/conf_int.h
%C%_libtp_conf_yaml_a_SOURCES = %D%/load.c %D%/yaml.c %D%/lists.c %D%/creds.c %D%/resolve.c %D%/files.c %D%/foreign.c %D%/readable.c %D%/system.c \
	%D%/report.c %D%/suggest.c %D%/firstrun.c %D%/certs.c %D%/no_effect.c %D%/databases.c %D%/alternates.c
%C%_libtp_conf_yaml_a_CFLAGS = $(AM_CFLAGS) $(YAML_CFLAGS) $(SODIUM_CFLAGS) $(CRYPTO_CFLAGS)
