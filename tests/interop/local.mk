# Clients of other projects: `make check-interop`.  Each is skipped where its client is not installed.
TP_INTEROP = %D%/interop_uclient.py %D%/interop_aioice.py %D%/interop_chromium.py %D%/interop_proxies.py
EXTRA_DIST += $(TP_INTEROP)
.PHONY: check-interop
check-interop: all
	$(MAKE) check TESTS='$(TP_INTEROP)'
