"""Adapters: one file per kind of infrastructure, each a `reconciler.ports.Scope`.

To write one: bind a place in `__init__(name, options)`, read its `identity`, say where a pid points (`locate`), and say
what you see (`observe`). Mapping, sightings and judgement are the core's. Register the class under the entry point
group `reconciler.adapters` and make it pass `reconciler.testing.AdapterContract`. An error is never an answer: raise
`AdapterError`.
"""
