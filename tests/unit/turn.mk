# unit tests of turn
