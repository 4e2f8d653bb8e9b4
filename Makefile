# The usual names for what is in tools/.

.PHONY: demo test lint unit functional clean

demo:
	tools/demo

test:
	tools/test

lint unit functional:
	tools/test $@

# What tools/ and Python leave in the tree. The cache is ~/.cache/ovs-metadata.
clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
