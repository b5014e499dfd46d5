"""The decision over every sequence of passes: what can be reached of (memory x symbol), and what must hold of it.

`setting` how run and scopes stand to each other, `node` what is remembered, `moves` what time and the world do to it,
`wary` what only guards remember, `scene` what a pass meets, `past` and `picture` how that looks to `decide`, `passes` a
pass with the real rules and guards, `walk` and `trials` the whole graph, `invariants` what holds of each pass, `steady`
what holds of a series of them, `seeds` bugs that the walk must find, `report` one setting from end to end.
"""
