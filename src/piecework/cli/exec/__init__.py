"""`piecework exec`: a command for every argument, in the words of GNU parallel and xargs."""
