"""How fast the primitives are, as ratios measured in one run: `python -m benchmarks`, or `make bench`.

One file is one pattern, and holds its rows: what is compared, the calls on which both sides must agree, and the
target. To add a row, write its peer there and a line in `ROWS`; a new file is named in `PATTERNS` (`__main__`).
What a row is stands in `_rows`; how it is timed in `_worlds`; what is made of the times in `_ratios`; how it is
told in `_page`.
"""
