# The usual names for what is in tools/.

.PHONY: demo test lint unit functional soak bench-flows clean

demo:
	tools/demo

test:
	tools/test

lint unit functional:
	tools/test $@

# Guests ask who they are, 100,000 times, while their ports are moved about. Some minutes; the short
# form is one of the functional tests.
soak:
	PYTHONPATH=tools .venv/bin/python -m lab.soak

# How the controller and the agent fare with up to 4,000 ports: benchmarks/README.md.
bench-flows:
	PYTHONPATH=tools .venv/bin/python benchmarks/flows.py

# What tools/ and Python leave in the tree. The cache is ~/.cache/ovs-metadata.
clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
