# usher
