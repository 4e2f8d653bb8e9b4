"""Real components on one machine, for functional tests, benchmarks and the demo."""
