# db: databases of users, and the HTTP callback; each library in a file of its own
noinst_LIBRARIES += %D%/libtp_db.a
%C%_libtp_db_a_SOURCES = %D%/db_pool.c %D%/db_facts.c %D%/db_sql.c %D%/db_sql_change.c %D%/db_key.c %D%/db_pairs.c %D%/db_int.h
%C%_libtp_db_a_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(SODIUM_CFLAGS) $(PGSQL_CFLAGS) $(HIREDIS_CFLAGS) $(SQLITE_CFLAGS) \
	$(MARIADB_CFLAGS) $(CURL_CFLAGS) $(JANSSON_CFLAGS) -pthread
if HAVE_PGSQL
%C%_libtp_db_a_SOURCES += %D%/db_pgsql.c
else
%C%_libtp_db_a_SOURCES += %D%/db_pgsql_none.c
endif
if HAVE_HIREDIS
%C%_libtp_db_a_SOURCES += %D%/db_redis.c %D%/redis_link.c
else
%C%_libtp_db_a_SOURCES += %D%/db_redis_none.c
endif
if HAVE_SQLITE
%C%_libtp_db_a_SOURCES += %D%/db_sqlite.c
else
%C%_libtp_db_a_SOURCES += %D%/db_sqlite_none.c
endif
if HAVE_MARIADB
%C%_libtp_db_a_SOURCES += %D%/db_mariadb.c
else
%C%_libtp_db_a_SOURCES += %D%/db_mariadb_none.c
endif
if HAVE_CURL
%C%_libtp_db_a_SOURCES += %D%/db_http.c
else
%C%_libtp_db_a_SOURCES += %D%/db_http_none.c
endif
