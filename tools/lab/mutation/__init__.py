"""Tests of the unit tests: the code is changed at random, and they should notice.

`candidates` makes mutants, `reach` knows which tests execute a line, `trial` runs those tests with
a mutant, and `command` is `make mutants`.
"""
