# turnpike-load against a relay that breaks things on purpose, and against the daemon over streams
TESTS += %D%/load_honest.py %D%/load_streams.py
EXTRA_DIST += %D%/load_honest.py %D%/load_streams.py %D%/faulty_relay.py
