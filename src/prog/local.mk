# prog
