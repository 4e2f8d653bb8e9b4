# The usual names for what is in tools/.

.PHONY: demo docs test lint unit functional soak fuzz mutants bench-flows bench-proxy bench-boot-storm bench-worst-guest bench-store bench-datapath bench-flood bench-ovn bench-sources bench-footprint bench-instructions bench-segments bench-change bench-start clean

demo:
	tools/demo

docs:
	tools/build-docs

test:
	tools/test

lint unit functional:
	tools/test $@

# Guests ask who they are, 100,000 times, while their ports are moved about. Some minutes; the short
# form is one of the functional tests.
soak:
	PYTHONPATH=tools .venv/bin/python -m lab.load.soak

# Every property is tried with new inputs, ten times as many as in tools/test; then a proxy is sent
# whatever guests could send it, for ten minutes or SECONDS=…; docs/hostile-guests.md.
fuzz:
	.venv/bin/pytest tests -m hypothesis --hypothesis-profile fuzz --timeout 1200
	PYTHONPATH=tools .venv/bin/python -m lab.attack.fuzz --seconds $(or $(SECONDS),600)

# The code is changed at random, 100 times, and each time the unit tests are to notice:
# CONTRIBUTING.md. ARGS are options: make mutants ARGS="--number 20 --seed 1"
mutants:
	.venv/bin/python -m pip install --quiet --target build/mutants --require-hashes -r constraints-mutants.txt
	PYTHONPATH=tools:build/mutants .venv/bin/python -m lab.mutation.command $(ARGS)

# How the controller and the agent fare with up to 4,000 ports: benchmarks/README.md.
bench-flows:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.flows $(ARGS)

# What one change of a port takes in the agent and in the flow controller: benchmarks/README.md.
bench-change:
	.venv/bin/python -m benchmarks.change
	.venv/bin/python -m benchmarks.change_controller

# How long the agent takes to serve, and commands to print: benchmarks/README.md. ARGS are options:
# make bench-start ARGS="--rounds 9"
bench-start:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.start $(ARGS)

# Memory and idle CPU of agent, controller and workers: benchmarks/README.md. ARGS are options:
# make bench-footprint ARGS="--json after.json --before before.json"
bench-footprint:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.footprint $(ARGS)

# What relaying a request costs, beside haproxy and Neutron's agent: benchmarks/README.md. ARGS are
# options: make bench-proxy ARGS=--quick
bench-proxy:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.proxy $(ARGS)

# 200 guests boot at once and ask our agent, and Neutron's, what cloud-init asks. ARGS are
# options: make bench-boot-storm ARGS="--guests 20"
bench-boot-storm:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.boot_storm $(ARGS)

# How much slower one guest is answered while another does its worst. ARGS are options.
bench-worst-guest:
	PYTHONPATH=tools .venv/bin/python benchmarks/worst_guest.py $(ARGS)

# What hundreds of agents ask of a ZooKeeper: ARGS="--agents 500 --records 100000" for all of it.
bench-store:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.store $(ARGS)

# What our flows cost ordinary traffic, in datapath flows and upcalls.
bench-datapath:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.datapath $(ARGS)

# What one guest's flood costs Open vSwitch and the guest beside it.
bench-flood:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.flood $(ARGS)

# Instructions of a worker for a relayed request, beside another commit: benchmarks/README.md.
bench-instructions:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.instructions $(ARGS)

# What a request costs by the address that it comes from: benchmarks/README.md.
bench-sources:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.sources $(ARGS)

# What guests notice when OVN's ovn-controller restarts.
bench-ovn:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.ovn $(ARGS)

# What longer segments of answers would gain.
bench-segments:
	PYTHONPATH=tools .venv/bin/python -m benchmarks.segments

# What tools/ and Python leave in the tree. The cache is ~/.cache/ovs-metadata.
clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
