"""Speed, memory and scale, each against a named reference in the same run: ``python -m benchmarks --list``."""
