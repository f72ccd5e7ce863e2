# unit tests of super
