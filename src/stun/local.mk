# stun
