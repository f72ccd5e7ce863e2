# unit tests of seal
