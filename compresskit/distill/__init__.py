"""The engine, in reading order: stage, curricula, taps, adapters, terms, objective, loop, session, distiller."""
