# Clients that are not ours; `make interop`.  Each is skipped where its client is not there.
TP_INTEROP = %D%/interop_uclient.py %D%/interop_aioice.py %D%/interop_chromium.py %D%/interop_proxies.py
EXTRA_DIST += $(TP_INTEROP)
.PHONY: interop
interop: all
	$(MAKE) check TESTS='$(TP_INTEROP)'
