"""The engine.

In reading order: stage, curricula, address, taps, trace, adapters, terms, objective, trained, loop, session, distiller.
"""
