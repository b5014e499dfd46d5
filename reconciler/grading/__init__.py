"""Was it right? Would-be settlements are graded, real ones are watched: what follows a verdict tells.

Nothing here decides: it reads a cycle's report, asks the orchestrator about runs that have left the list, and keeps
what it learned in a file of its own, whose loss loses nothing else.
"""
