# unit tests of stun
