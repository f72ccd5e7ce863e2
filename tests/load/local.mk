# turnpike-load against a relay that breaks things on purpose, and against the daemon over streams
TP_LOAD = %D%/load_honest.py %D%/load_streams.py
TESTS += %D%/load_honest.py
EXTRA_DIST += %D%/load_honest.py %D%/load_streams.py %D%/faulty_relay.py
