"""Checking: our count of multiply-accumulates against the counts of other tools.

Files, in reading order:

- `crosscheck`: a verdict for each tool: it agrees, it differs and why, it cannot run and why.
- `backends`: the other tools: torch's own counter, thop and fvcore.
"""
