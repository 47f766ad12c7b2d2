"""How fast the primitives are, as ratios measured in one run: `python -m benchmarks`, or `make bench`.

One file is one pattern, and holds its rows: what is compared, with which calls both sides must agree, and the
target. What a row is stands in `_rows`; how it is timed in `_worlds`; what is made of the times in `_ratios`;
how it is told in `_page`.
"""
