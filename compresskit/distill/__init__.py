"""The engine, in reading order: stage, curricula, address, taps, adapters, terms, objective, loop, session, distiller."""
