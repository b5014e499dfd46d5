"""Real parts for tests: a Prefect server, a Docker engine, workers and their flows, and a proxy that injects faults.

Whatever a rig starts has its own folder, port or socket, and is ended by pid.
"""
