# unit tests of shm
