# super
