"""The decision over a root and one subflow: every combination of a small world, and what must hold of each.

`world` what there may be and how it looks to `decide`, `claims` what must hold, `seeds` bugs that the walk must find.
"""
