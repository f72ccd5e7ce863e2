# interop
